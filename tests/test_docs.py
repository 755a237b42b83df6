"""The pages that people read point at files, commands and options that exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from kinesphere.cli import main as cli

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("src/**/*.md")]
)

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(?:a|img)[^>]*(?:href|src)=\"([^\"]+)\"")
CODE = re.compile(r"```.*?\n(.*?)```|`([^`\n]+)`", re.DOTALL)
COMMAND = re.compile(r"^[ \t$]*kinesphere ([a-z]+)\b(.*)$", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)\[?(--[a-z][a-z0-9-]*)")


def links(page: Path) -> list[str]:
    """List the targets of a page's links that are not web addresses."""
    targets = [first or second for first, second in LINK.findall(page.read_text(encoding="utf-8"))]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def commands(page: Path) -> list[tuple[str, str]]:
    """List the kinesphere commands in a page's code, each with what follows it; a \\ joins lines as
    in a shell."""
    code = (block or inline for block, inline in CODE.findall(page.read_text(encoding="utf-8")))
    return [found for text in code for found in COMMAND.findall(text.replace("\\\n", " "))]


def anchors(page: Path) -> set[str]:
    """List the headings of a page as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def help_of(command: str) -> str:
    import contextlib
    import io

    page = io.StringIO()
    with contextlib.redirect_stdout(page):
        assert cli.main([command, "--help-all"]) == 0
    return page.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_resolve(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        destination = (page.parent / path) if path else page
        assert destination.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(destination), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_and_their_options_exist(page: Path) -> None:
    for command, arguments in commands(page):
        assert command in cli.command_names(), f"{page.name}: kinesphere {command}"
        for option in OPTION.findall(arguments):
            assert option in help_of(command), f"{page.name}: kinesphere {command} {option}"


def test_reader_of_links_and_commands_sees_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n[one](docs/a.md#part), [web](https://example.org) ![two](b.png)\n"
        "Say `kinesphere inspect p.star --n 3`, or\n```sh\n$ kinesphere demo \\\n    --out "
        "x\nkinesphere.load\n```\n",
        encoding="utf-8",
    )
    assert links(page) == ["docs/a.md#part", "b.png"]
    assert [(name, OPTION.findall(rest)) for name, rest in commands(page)] == [
        ("inspect", ["--n"]),
        ("demo", ["--out"]),
    ]
    assert anchors(page) == {"a-page"}
