"""How code is laid out, in numbers: length of files, functions, tuple assignments, long lines,
comments.

    python tools/measure_style.py [TREE …]

Prints a table in Markdown for every tree: a line for each folder directly below it, and one for all
of it. A tree is a package, or a repository with one package in `src/`; without any, it is this
repository. The numbers are a mirror, not a goal: cryojax, for one, has 159 lines a file, 39
functions per 1,000 lines, 9.5 % tuple assignments, 0.2 % long lines, 4 comments per 100 lines.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LONGEST_LINE = 100
HEADS = (
    "package",
    "files",
    "lines",
    "lines a file, median",
    "mean",
    "functions per 1,000 lines",
    "tuple assignments, %",
    "of them side by side, %",
    f"lines over {LONGEST_LINE}, %",
    "comment lines per 100",
)


@dataclass(frozen=True)
class FileCounts:
    """What is counted in a file.

    Attributes
    ----------
    lines, long_lines
        All lines; those of more than 100 characters.
    comments
        Comments, also those behind code. A docstring is none.
    functions
        Functions and methods, nested ones too.
    assignments
        Statements `target = value`.
    to_tuple
        Assignments whose target is a tuple, `a, b = …`, also where a function returns one.
    side_by_side
        Assignments of one tuple to another, `a, b = x, y`: values that are mostly unrelated.
    """

    lines: int
    long_lines: int
    comments: int
    functions: int
    assignments: int
    to_tuple: int
    side_by_side: int


def count(text: str) -> FileCounts:
    """Count what a Python file holds.

    Parameters
    ----------
    text
        The file.

    Returns
    -------
    FileCounts
        The counts.

    Raises
    ------
    SyntaxError
        If it is not Python.
    """
    lines = text.splitlines()
    nodes = list(ast.walk(ast.parse(text)))
    assignments = [node for node in nodes if isinstance(node, ast.Assign)]
    to_tuple = [node for node in assignments if isinstance(node.targets[0], ast.Tuple)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return FileCounts(
        lines=len(lines),
        long_lines=sum(len(line) > LONGEST_LINE for line in lines),
        comments=sum(token.type == tokenize.COMMENT for token in tokens),
        functions=sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        assignments=len(assignments),
        to_tuple=len(to_tuple),
        side_by_side=sum(isinstance(node.value, ast.Tuple) for node in to_tuple),
    )


def row(name: str, files: Sequence[FileCounts]) -> tuple[str, ...]:
    """Sum up some files as one row of the table, in the order of HEADS.

    Parameters
    ----------
    name
        What to call them.
    files
        Counts of each.

    Returns
    -------
    tuple of str
        The cells.
    """
    lines = sum(file.lines for file in files)
    assignments = sum(file.assignments for file in files)
    return (
        name,
        f"{len(files)}",
        f"{lines:,}",
        f"{statistics.median(file.lines for file in files):.0f}",
        f"{lines / len(files):.0f}",
        _share(1000 * sum(file.functions for file in files), lines, digits=0),
        _share(100 * sum(file.to_tuple for file in files), assignments),
        _share(100 * sum(file.side_by_side for file in files), assignments),
        _share(100 * sum(file.long_lines for file in files), lines),
        _share(100 * sum(file.comments for file in files), lines),
    )


def _share(part: float, whole: int, digits: int = 1) -> str:
    return f"{part / whole:.{digits}f}" if whole else "–"


def package_of(tree: Path) -> Path:
    """Find the package of a repository that keeps it in `src/`; any other folder is one itself."""
    packages = [path.parent for path in sorted((tree / "src").glob("*/__init__.py"))]
    return packages[0] if len(packages) == 1 else tree


def measure(package: Path) -> list[tuple[str, ...]]:
    """Measure a package.

    Parameters
    ----------
    package
        Its folder.

    Returns
    -------
    list of tuple of str
        A row for the files directly in it, one for every folder, and one for everything.

    Raises
    ------
    SystemExit
        If it holds no Python files.
    """
    groups: dict[str, list[FileCounts]] = {}
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        group = f"{inside.parts[0]}/" if len(inside.parts) > 1 else "*.py"
        groups.setdefault(group, []).append(count(path.read_text(encoding="utf-8")))
    if not groups:
        raise SystemExit(f"{package}: no Python files")
    everything = [file for files in groups.values() for file in files]
    return [*(row(name, files) for name, files in groups.items()), row("all", everything)]


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """Write rows below HEADS as a table in Markdown."""
    head = [HEADS, ("---", *("---:" for _ in HEADS[1:]))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*head, *rows])


def main() -> None:
    """Measure the trees of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n", maxsplit=1)[0])
    parser.add_argument("trees", metavar="TREE", type=Path, nargs="*", default=[REPOSITORY])
    for tree in parser.parse_args().trees:
        package = package_of(tree)
        print(f"{package}\n\n{markdown(measure(package))}\n")


if __name__ == "__main__":
    main()
