"""STAR files: tables read through gemmi, written anew or copied with rows chosen and columns
changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from gemmi import cif
from numpy.typing import ArrayLike, NDArray

from kinesphere.errors import InputError
from kinesphere.runtime import atomic_write

# Words that CIF reserves and RELION does not: a folder called data_2024/ is a value there.
_RESERVED = r"(?:data_|save_|loop_|stop_|global_|\$)"
_RESERVED_VALUE = re.compile(rf"(?im)(?:(?<=[ \t])|^(?=\S+[ \t]+[^#\s]))({_RESERVED}\S*)")
_QUOTED_RESERVED = re.compile(rf"(?i)^'({_RESERVED}\S*)'$")
_VERSION_COMMENT = re.compile(r"(?m)^# version \d+")
_IMAGE_FOLDER_COMMENT = re.compile(r"(?m)^# image names are relative to (.+)$")
_HEAD_BYTES = 65536
_VALUE = re.compile(r"'[^']*'(?=\s|$)|\"[^\"]*\"(?=\s|$)|#.*|\S+")


@dataclass(frozen=True, eq=False)
class StarTable:
    """One table of a STAR file: a loop, or the single values of a block as a table of one row.

    Attributes
    ----------
    path
        File it is in, for messages.
    block
        Name of its block, without `data_`; empty where the block has none.
    columns
        Names without the leading underscore, in the order of the file.
    n_rows
        Number of rows.
    """

    path: Path
    block: str
    columns: tuple[str, ...]
    n_rows: int
    _block: cif.Block = field(repr=False)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def text(self, name: str) -> list[str]:
        """Return a column as text without its quotes, one value a row."""
        try:
            values = list(self._block.find_values(f"_{name}"))
        except UnicodeDecodeError as error:
            raise InputError(
                self.path, f"{name} is not UTF-8 text", "Write the file again as UTF-8"
            ) from error
        return [cif.as_string(value) if value[:1] in {"'", '"', ";"} else value for value in values]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, (n_rows,).

        Raises
        ------
        InputError
            If a value is not a finite number; the message names the row.
        """
        text = self.text(name)
        try:
            numbers = np.array(text, dtype=np.float64)
        except ValueError:
            numbers = np.array([_number_or_nan(value) for value in text])
        bad = np.flatnonzero(~np.isfinite(numbers))
        if bad.size:
            problem = (
                f"{name} of row {bad[0] + 1} is {text[bad[0]]!r}, not a finite number "
                f"({bad.size} such rows)"
            )
            raise InputError(self.path, problem, "Correct or remove these rows")
        return numbers

    def integers(self, name: str) -> NDArray[np.int64]:
        """Return a column of whole numbers, (n_rows,).

        Raises
        ------
        InputError
            If a value is not a whole number; the message names the row.
        """
        numbers = self.numbers(name)
        bad = np.flatnonzero(numbers != np.round(numbers))
        if bad.size:
            problem = f"{name} of row {bad[0] + 1} is {numbers[bad[0]]:g}, not a whole number"
            raise InputError(self.path, problem, "Correct this row")
        return numbers.astype(np.int64)


@dataclass(frozen=True, eq=False)
class StarFile:
    """The tables of a STAR file.

    Attributes
    ----------
    tables
        All tables, in the order of the file.
    image_folder
        Folder that image names are relative to, where kinesphere noted it on writing.
    stamp
        Size and time of change of the file when it was read.
    """

    tables: tuple[StarTable, ...]
    image_folder: Path | None
    stamp: tuple[int, int]


@dataclass(frozen=True)
class TableEdit:
    """How a copy of a table differs from its original.

    Attributes
    ----------
    rows
        (m,) rows to keep, in the order wanted; None keeps all.
    columns
        New columns by name, m values each; those of a name that is there take its place.
    """

    rows: NDArray[np.int64] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_star(path: str | Path) -> StarFile:
    """Read the tables of a STAR file, as RELION 3.0 to 5, Warp, cryoSPARC's converters and others
    write it.

    The file is parsed by gemmi; a table gives its columns on demand, so that only those asked for
    become arrays.

    Parameters
    ----------
    path
        File to read.

    Returns
    -------
    StarFile

    Raises
    ------
    InputError
        If the file is missing, not text, a git-lfs pointer, not STAR, or a loop in it has a row of
        another length.
    """
    path = Path(path)
    head, stamp = _read_head(path)
    document = _parse(path)
    folder = _IMAGE_FOLDER_COMMENT.search(head)
    tables = tuple(table for block in document for table in _tables(path, block))
    return StarFile(tables, Path(folder.group(1)) if folder else None, stamp)


def copy_star(
    source: str | Path,
    target: str | Path,
    edits: Mapping[str, TableEdit],
    *,
    stamp: tuple[int, int] | None = None,
    image_folder: Path | None = None,
) -> None:
    """Write a copy of a STAR file in which some tables have other rows or columns; every other
    value keeps its text.

    Parameters
    ----------
    source
        File to copy.
    target
        File to write; it may be the same one.
    edits
        What to change, by the name of the block; its largest loop is meant.
    stamp
        `StarFile.stamp` of the time when `edits` was made.
    image_folder
        Folder that relative image names start from, noted in a comment for `read_star`.

    Raises
    ------
    InputError
        If the source cannot be read, or has changed since.
    """
    source = Path(source)
    head, stamp_now = _read_head(source)
    if stamp is not None and stamp != stamp_now:
        raise InputError(source, "has changed since it was read", "Start again with the new file")
    version = _VERSION_COMMENT.search(head)
    document = _parse(source)
    with atomic_write(Path(target)) as temporary, temporary.open("w", encoding="utf-8") as file:
        _write_image_folder(file, image_folder)
        for block in document:
            _write_block_header(file, block.name.strip(), version.group() if version else None)
            edit = edits.get(block.name.strip(), TableEdit())
            _copy_block(file, block, edit)


def write_star(
    path: str | Path,
    tables: Mapping[str, Mapping[str, ArrayLike]],
    *,
    image_folder: Path | None = None,
) -> None:
    """Write a STAR file in the layout of RELION 3.1.

    Parameters
    ----------
    path
        File to write.
    tables
        Columns by name, by the name of the block; the columns of a block have equal lengths.
    image_folder
        Folder that relative image names start from, noted in a comment for `read_star`.
    """
    with atomic_write(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
        _write_image_folder(file, image_folder)
        for block, columns in tables.items():
            _write_block_header(file, block, "# version 30001")
            _write_loop_header(file, list(columns))
            texts = [format_column(values) for values in columns.values()]
            file.writelines(" ".join(row) + "\n" for row in zip(*texts, strict=True))
            file.write("\n")


def format_column(values: ArrayLike) -> list[str]:
    """Write values as STAR text: whole numbers as such, others with up to nine digits, text quoted
    where it must.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return [str(int(value)) for value in array]
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError("a column to be written holds values that are not finite")
        # The shortest text that gives a float32 back; nine digits of a float64.
        return (
            array.astype(str).tolist()
            if array.itemsize <= 4
            else [f"{value:.9g}" for value in array]
        )
    return [_quote(str(value)) for value in array]


def _quote(value: str) -> str:
    return value if re.fullmatch(r"[^\s'\"#_;][^\s]*", value) else str(cif.quote(value))


def _number_or_nan(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def _read_head(path: Path) -> tuple[str, tuple[int, int]]:
    """Beginning of the file, where comments may stand, and its stamp."""
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "there is no such file"
        raise InputError(path, problem, "Give a particle file (.star or .cs)")
    status = path.stat()
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    if head.startswith("version https://git-lfs"):
        raise InputError(
            path, "is a git-lfs pointer, not the file itself", "Fetch it with git lfs pull"
        )
    if not head.strip():
        raise InputError(path, "is empty", "Give a STAR file with particles")
    return head, (status.st_size, status.st_mtime_ns)


def _parse(path: Path) -> cif.Document:
    try:
        return cif.read_file(str(path))
    except (ValueError, RuntimeError) as error:
        text = _read_text(path)
        quoted = _RESERVED_VALUE.sub(_quote_reserved, text)
        with suppress(ValueError, RuntimeError):
            return cif.read_string(quoted)
        ragged = _find_ragged_row(text)
        if ragged:
            remedy = "Each row needs one value a column; quote values that hold blanks"
            raise InputError(path, ragged, remedy) from error
        where = re.search(r":(\d+):\d+\(\d+\): (.*)$", str(error))
        reason = (
            f"line {where.group(1)}: {where.group(2)}" if where else str(error).rpartition(": ")[2]
        )
        remedy = "Give a file that RELION or cryoSPARC wrote"
        raise InputError(path, f"is not a STAR file ({reason})", remedy) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            path, "is not a text file", "Give a STAR file, or a .cs file under that name"
        ) from error


def _quote_reserved(match: re.Match[str]) -> str:
    """Quote a value that only looks like a keyword; a header alone on its line never gets here."""
    value = match.group(1)
    return value if "'" in value else f"'{value}'"


def _find_ragged_row(text: str) -> str | None:
    """Find the first row of a loop whose number of values is not the number of columns."""
    block = ""
    n_columns = 0
    row = 0
    for number, line in enumerate(text.splitlines(), 1):
        values = [value for value in _VALUE.findall(line) if not value.startswith("#")]
        if not values:
            continue
        if line.startswith("data_"):
            block = values[0]
            n_columns = 0
        elif values == ["loop_"]:
            n_columns = 0
            row = 0
        elif values[0].startswith("_"):
            n_columns = n_columns + 1 if len(values) == 1 else 0
        elif n_columns:
            row += 1
            if len(values) != n_columns:
                return (
                    f"row {row} of {block} (line {number}) has {len(values)} values for "
                    f"{n_columns} columns"
                )
    return None


def _loop(item: cif.Item) -> cif.Loop | None:
    return item.loop  # gemmi's annotation leaves the None out


def _pair(item: cif.Item) -> tuple[str, str] | None:
    pair: Any = item.pair
    return None if pair is None else (pair[0], pair[1])


def _tables(path: Path, block: cif.Block) -> Iterator[StarTable]:
    pairs = tuple(pair[0].removeprefix("_") for pair in map(_pair, block) if pair)
    if pairs:
        yield StarTable(path, block.name.strip(), pairs, 1, block)
    for loop in map(_loop, block):
        if loop is not None:
            columns = tuple(tag.removeprefix("_") for tag in loop.tags)
            yield StarTable(path, block.name.strip(), columns, loop.length(), block)


def _write_image_folder(file: TextIO, folder: Path | None) -> None:
    if folder is not None:
        file.write(f"# image names are relative to {folder}\n")


def _write_block_header(file: TextIO, name: str, version: str | None) -> None:
    file.write(f"\n{version}\n" if version else "")
    file.write(f"\ndata_{name}\n\n")


def _write_loop_header(file: TextIO, columns: Iterable[str]) -> None:
    file.write("loop_\n")
    file.writelines(f"_{name} #{number}\n" for number, name in enumerate(columns, 1))


def _copy_block(file: TextIO, block: cif.Block, edit: TableEdit) -> None:
    loops = [loop for loop in map(_loop, block) if loop is not None]
    edited = max(loops, key=lambda loop: loop.length()).tags if loops else []
    for item in block:
        pair = _pair(item)
        loop = _loop(item)
        if pair is not None:
            file.write(f"{pair[0]}  {_unquote_reserved(pair[1])}\n")
        elif loop is not None:
            _copy_loop(
                file, loop, block.item_as_table(item), edit if loop.tags == edited else TableEdit()
            )
    file.write("\n")


def _copy_loop(file: TextIO, loop: cif.Loop, table: cif.Table, edit: TableEdit) -> None:
    names = [tag.removeprefix("_") for tag in loop.tags]
    replaced = {names.index(name): values for name, values in edit.columns.items() if name in names}
    added = {name: values for name, values in edit.columns.items() if name not in names}
    _write_loop_header(file, [*names, *added])
    rows = range(loop.length()) if edit.rows is None else edit.rows.tolist()
    for number, row in enumerate(rows):
        values = [_unquote_reserved(value) for value in table[row]]
        for position, column in replaced.items():
            values[position] = column[number]
        values += [column[number] for column in added.values()]
        file.write(" ".join(values) + "\n")


def _unquote_reserved(value: str) -> str:
    """Undo `_quote_reserved`: RELION would take the quotes for a part of the name."""
    return _QUOTED_RESERVED.sub(r"\1", value) if value[:1] == "'" else value
