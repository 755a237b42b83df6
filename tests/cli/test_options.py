"""What is known of a command's options is what its parser takes."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from kinesphere.cli._commands import command_names, load_command
from kinesphere.cli._options import Option, common_only, in_groups, options_of
from kinesphere.config import Advanced

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Base:
    """Settings of both kinds."""

    seed: int = 0
    """Seed of what
    is drawn."""


@dataclass(frozen=True)
class Inner(Base):
    """Inner settings."""

    way: Literal["fast", "exact"] | None = None
    """Way of
    working."""
    tolerance: Advanced[float] = 0.5
    """Smallest change."""


@dataclass(frozen=True)
class Outer:
    """Options of a command."""

    run: tyro.conf.Positional[Path]
    """Folder."""
    names: tuple[str, ...] = ()
    """Names."""
    quiet: bool = False
    """Say nothing."""
    inner: tyro.conf.OmitArgPrefixes[Inner] = field(default_factory=lambda: Inner(seed=7))
    expert: Advanced[tyro.conf.OmitArgPrefixes[Base]] = field(default_factory=Base)
    out: Annotated[Path, tyro.conf.arg(help="Where to.")] = Path("out")


def by_name(options: tuple[Option, ...]) -> dict[str, Option]:
    return {option.name: option for option in options}


def page(options_class: type) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stop:
        tyro.cli(options_class, args=["--help"], prog="command", description="")
    assert stop.value.code == 0
    return text.getvalue()


def test_options_know_their_help_default_and_values() -> None:
    @dataclass(frozen=True)
    class Flat(Outer):
        expert: Advanced[bool] = True  # type: ignore[assignment]

    options = by_name(options_of(Flat))
    assert list(options) == ["run", "names", "quiet", "expert", "out", "seed", "way", "tolerance"]
    assert options["run"].is_positional
    assert options["run"].is_path
    assert options["run"].default is MISSING
    assert options["names"].takes_several
    assert options["quiet"].flags == ("--quiet", "--no-quiet")
    assert options["seed"].default == 7
    assert options["seed"].help == "Seed of what is drawn."
    assert options["way"].choices == ("fast", "exact")
    assert options["way"].help == "Way of working."
    assert options["out"].help == "Where to."
    advanced = [name for name, option in options.items() if option.is_advanced]
    assert advanced == ["expert", "tolerance"]


def test_a_group_that_is_advanced_is_so_as_a_whole() -> None:
    assert [option.is_advanced for option in options_of(Outer) if option.name == "seed"] == [
        True,
        False,
    ]


def test_the_common_page_leaves_out_what_is_advanced() -> None:
    options = tuple(option for option in options_of(Inner))
    assert set(FLAG.findall(page(common_only(options)))) == {"--help", "--seed", "--way"}


@pytest.mark.parametrize("name", command_names())
def test_they_are_those_that_the_parser_takes(name: str) -> None:
    options_class = load_command(name).options_class
    known = {flag for option in options_of(options_class) for flag in option.flags}
    starts = r"^[│ ]{1,2}(--[a-z][a-z0-9-]*(?:, --[a-z][a-z0-9-]*)*)"
    for shown in (options_class, in_groups(options_class)):
        lines = re.findall(starts, page(shown), re.MULTILINE)
        assert {flag for line in lines for flag in line.split(", ")} == known


@pytest.mark.parametrize("name", sorted({*command_names()} - {"segments", "field"}))
def test_about_a_dozen_are_common_and_all_are_explained(name: str) -> None:
    options = options_of(load_command(name).options_class)
    assert sum(not option.is_advanced for option in options) <= 16
    assert [option.name for option in options if not option.help] == []
    required = [option for option in options if option.default is MISSING]
    assert not any(option.is_advanced for option in required)
