"""What the package imports is what it says it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORT_NAMES = {
    "lazy-loader": "lazy_loader",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "umap-learn": "umap",
}


def required(requirements: list[str]) -> set[str]:
    """List the import names of some requirements."""
    names = [re.split(r"[<>=\[; ]", requirement)[0].lower() for requirement in requirements]
    return {IMPORT_NAMES.get(name, name) for name in names}


def imported(file: Path) -> set[str]:
    """List the top-level packages that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_every_import_is_a_declared_dependency() -> None:
    optional = PROJECT["optional-dependencies"]
    allowed = required(PROJECT["dependencies"] + optional["umap"] + optional["gpu-dev"])
    allowed |= set(sys.stdlib_module_names) | {"kinesphere"}
    files = sorted((REPOSITORY / "src").rglob("*.py"))
    undeclared = {str(file.relative_to(REPOSITORY)): imported(file) - allowed for file in files}
    assert {name: packages for name, packages in undeclared.items() if packages} == {}


def test_every_dependency_is_imported() -> None:
    used = set().union(*(imported(file) for file in (REPOSITORY / "src").rglob("*.py")))
    assert required(PROJECT["dependencies"]) - used == set()


@pytest.mark.parametrize("group", ["dependencies", "dev"])
def test_every_dependency_is_pinned(group: str) -> None:
    requirements = (
        PROJECT["dependencies"]
        if group == "dependencies"
        else PROJECT["optional-dependencies"][group]
    )
    lines = (
        (REPOSITORY / "constraints.txt")
        .read_text(encoding="utf-8")
        .lower()
        .replace("_", "-")
        .splitlines()
    )
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    named = {re.split(r"[<>=\[; ]", requirement)[0].lower() for requirement in requirements}
    assert named - pinned == set()
