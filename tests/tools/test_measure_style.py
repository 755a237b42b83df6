"""Numbers on the layout of code, of a file whose counts are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import measure_style
import pytest
from measure_style import FileCounts, count, measure, package_of

CODE = f'''"""A docstring # without a comment."""

LONG = "{"x" * 94}"  # a comment behind a line of 101 characters and more
# A comment on a line of its own.


def outer(x, y):
    a, b = x, y
    c, d = divmod(a, b)

    async def inner():
        e = f = 0
        g: int = 1
        return e

    return inner
'''


def test_counts_of_a_file() -> None:
    assert count(CODE) == FileCounts(
        lines=16,
        long_lines=1,
        comments=2,
        functions=2,
        assignments=4,  # LONG, two tuples and e = f; g is annotated
        to_tuple=2,
        side_by_side=1,
    )


def test_a_line_of_exactly_the_width_is_not_long() -> None:
    assert count("x" * 100 + "\n").long_lines == 0
    assert count("x" * 101 + "\n").long_lines == 1


def test_a_package_is_measured_by_folder(tmp_path: Path) -> None:
    package = tmp_path / "src" / "thing"
    (package / "part" / "deeper").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "part" / "a.py").write_text("x = 1\n" * 10)
    (package / "part" / "deeper" / "b.py").write_text("a, b = 1, 2\n" * 30)
    assert package_of(tmp_path) == package
    top, part, everything = measure(package)
    assert top == ("*.py", "1", "0", "0", "0", "–", "–", "–", "–", "–")
    assert part == ("part/", "2", "40", "20", "20", "0", "75.0", "75.0", "0.0", "0.0")
    assert everything == ("all", "3", "40", "10", "13", "0", "75.0", "75.0", "0.0", "0.0")


def test_a_folder_without_src_is_the_package_itself(tmp_path: Path) -> None:
    assert package_of(tmp_path) == tmp_path
    with pytest.raises(SystemExit, match="no Python files"):
        measure(tmp_path)


def test_the_command_prints_a_table_of_this_repository() -> None:
    command = [sys.executable, measure_style.__file__]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    header, *_, last = [line for line in printed.splitlines() if line.startswith("|")]
    assert header.count("|") == last.count("|") == len(measure_style.HEADS) + 1
    packages = {path.parent.name for path in measure_style.REPOSITORY.glob("src/*/*/__init__.py")}
    assert all(f"| {name}/ |" in printed for name in packages)
