"""Tests mirror the tree: every module has the file of tests that one would look for."""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "kinesphere"
TESTS = REPOSITORY / "tests"


def does_something(module: Path) -> bool:
    """Tell whether a module has a function; options, say, may be nothing but their defaults."""
    nodes = ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8")))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)


def test_every_module_has_its_file_of_tests() -> None:
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name[:2] != "__"]
    without = [
        module.as_posix()
        for module in sorted(modules)
        if does_something(module)
        and not (TESTS / module).with_name(f"test_{module.stem.lstrip('_')}.py").exists()
    ]
    assert without == []


def test_every_folder_of_tests_has_its_name_from_the_package_or_the_repository() -> None:
    folders = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*") if path.is_dir()}
    strangers = {
        folder
        for folder in folders
        if "__pycache__" not in folder
        and not (PACKAGE / folder).is_dir()
        and not (PACKAGE / f"{folder}.py").exists()
        and not (REPOSITORY / folder).is_dir()
    }
    assert strangers == {"helpers", "oracles"}
