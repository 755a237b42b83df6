"""cryoSPARC `.cs` files: NumPy arrays with one named column a field, and the passthrough files that
complete them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.recfunctions import merge_arrays, repack_fields
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.runtime import atomic_write

NUMPY_MAGIC = b"\x93NUMPY"
COMPRESSED_MAGIC = b"\x94CSDAT"

# One-dimensional, with named fields; NumPy's own types cannot say so in a way that can be checked
# at run time.
StructuredArray: TypeAlias = NDArray[Any]


def read_cs(path: str | Path) -> StructuredArray:
    """Read a `.cs` file.

    Parameters
    ----------
    path
        File to read.

    Returns
    -------
    ndarray
        (n,) structured array; the fields are called as in cryoSPARC, such as `blob/path`.

    Raises
    ------
    InputError
        If the file is missing, has no NumPy header, is cut short, or holds no named columns.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "there is no such file"
        raise InputError(path, problem, "Give a particle file (.star or .cs)")
    with path.open("rb") as file:
        _require_numpy(path, file.read(32))
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            path, f"cannot be read ({error})", "Copy or export it from cryoSPARC again"
        ) from error
    if not isinstance(rows, np.ndarray) or rows.dtype.names is None or rows.ndim != 1:
        raise InputError(
            path, "holds no table of named columns", "Give a .cs file that cryoSPARC wrote"
        )
    return rows


def join_passthrough(rows: StructuredArray, path: Path, passthrough: Path) -> StructuredArray:
    """Add the columns of a passthrough file, whose rows may come in another order, by `uid`.

    Parameters
    ----------
    rows
        (n,) the particles.
    path
        Their file, for messages.
    passthrough
        File with more columns of the same particles, and perhaps of others.

    Returns
    -------
    ndarray
        (n,) all columns of `rows`, and those of the passthrough file that it lacks.

    Raises
    ------
    InputError
        If either file has no `uid`, or the passthrough file lacks a particle.
    """
    other = read_cs(passthrough)
    for source, table in ((path, rows), (passthrough, other)):
        if "uid" not in _names(table):
            raise InputError(
                source,
                "has no column uid, which joins it to its passthrough file",
                "Export it again",
            )
    order = np.argsort(other["uid"], kind="stable")
    found = np.searchsorted(other["uid"], rows["uid"], sorter=order).clip(
        max=max(len(other) - 1, 0)
    )
    position = order[found] if len(other) else np.zeros(0, dtype=np.int64)
    if len(position) != len(rows) or (other["uid"][position] != rows["uid"]).any():
        n_absent = int((~np.isin(rows["uid"], other["uid"])).sum())
        problem = f"lacks {n_absent} of the {len(rows)} particles of {path}"
        raise InputError(passthrough, problem, "Give the passthrough file of the same job")
    added = [name for name in _names(other) if name not in _names(rows)]
    if not added:
        return rows
    # Packed, so that a file written from this holds the columns' own bytes and nothing between
    # them.
    joined: StructuredArray = merge_arrays(
        [rows, repack_fields(other[added])[position]], flatten=True, usemask=False
    )
    return joined


def write_cs(path: str | Path, rows: StructuredArray) -> None:
    """Write rows of a `.cs` file with the columns and types they were read with.

    Parameters
    ----------
    path
        File to write.
    rows
        (n,) structured array.
    """
    with atomic_write(Path(path)) as temporary, temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def star_columns(rows: StructuredArray) -> dict[str, NDArray[Any]]:
    """Turn all columns into STAR columns, with names that say where they come from.

    `alignments3D/cross_cor` becomes `csAlignments3DCrossCor`, `uid` becomes `csUid`, and the
    numbers of a column of vectors are counted from 1: `csBlobShape1`, `csBlobShape2`.

    Parameters
    ----------
    rows
        (n,) structured array.

    Returns
    -------
    dict
        (n,) values by column name without underscore.
    """
    columns: dict[str, NDArray[Any]] = {}
    for name in _names(rows):
        star_name = "cs" + "".join(word[:1].upper() + word[1:] for word in re.split(r"[/_]", name))
        values = rows[name]
        if values.dtype.kind == "S":
            values = text_column(rows, name)
        if values.ndim == 1:
            columns[star_name] = values
            continue
        flat = values.reshape(len(rows), -1)
        columns |= {f"{star_name}{number + 1}": flat[:, number] for number in range(flat.shape[1])}
    return columns


def text_column(rows: StructuredArray, name: str) -> NDArray[Any]:
    """Decode a column of bytes, (n,)."""
    decoded: NDArray[Any] = np.char.decode(rows[name], "utf-8")
    return decoded


def _names(rows: StructuredArray) -> tuple[str, ...]:
    return rows.dtype.names or ()


def _require_numpy(path: Path, beginning: bytes) -> None:
    if beginning.startswith(NUMPY_MAGIC):
        return
    if beginning.startswith(COMPRESSED_MAGIC):
        problem = "is in cryoSPARC's compressed format"
        remedy = "Save it as a plain .cs file with cryosparc-tools"
    elif beginning.startswith(b"version https://git-lfs"):
        problem = "is a git-lfs pointer, not the file itself"
        remedy = "Fetch it with git lfs pull"
    else:
        problem = "has no NumPy header: it is not a .cs file, or only its raw rows"
        remedy = "Export it again"
    raise InputError(path, problem, remedy)
