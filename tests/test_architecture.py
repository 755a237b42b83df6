"""The picture of the house shows the rooms that there are, and arrows that imports may follow."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "kinesphere"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def picture() -> str:
    """Return the picture of the page, as text."""
    (text,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    return text


def rooms() -> list[str]:
    """List what the picture shows."""
    return re.findall(r'^ *(\w+)\["', picture(), re.MULTILINE)


def arrows() -> list[tuple[str, str]]:
    """List the arrows of the picture, each from an importer to what it may import."""
    chains = [line.split(" --> ") for line in picture().splitlines() if " --> " in line]
    return [(start.strip(), end.strip()) for chain in chains for start, end in pairwise(chain)]


def depth() -> dict[str, int]:
    """Number the lines of the import contract from the top, by what stands on them."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    lines = [re.findall(r"\w+", line) for line in contract["layers"]]
    return {name: number for number, line in enumerate(lines) for name in line}


def test_every_package_is_a_room_and_every_room_a_module() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert packages - set(rooms()) == set()
    assert set(rooms()) - packages - modules == set()
    assert len(rooms()) == len(set(rooms()))


def test_arrows_lead_down_and_reach_every_room() -> None:
    level = depth()
    assert [pair for pair in arrows() if level[pair[0]] >= level[pair[1]]] == []
    assert {end for pair in arrows() for end in pair} == set(rooms())


def test_the_table_names_every_room_and_only_modules_that_there_are() -> None:
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", PAGE, re.MULTILINE))
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages - set(rows) == set()
    missing = {
        f"{package}/{name}"
        for package, text in rows.items()
        for name in re.findall(r"`([a-z_0-9]+)`", text)
        if not (PACKAGE / package / f"{name}.py").exists()
    }
    assert missing == set()
