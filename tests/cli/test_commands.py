"""Commands are found before any is imported, in modules and among the methods."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kinesphere.cli import _commands
from kinesphere.cli._commands import Command, Source, command_names, command_summary, load_command


def test_finding_commands_imports_none() -> None:
    program = (
        "import sys; from kinesphere.cli._commands import command_names; command_names(); "
        "sys.exit(' '.join(n for n in sys.modules if n.startswith('kinesphere.cli.') "
        "and not n.startswith('kinesphere.cli._')) or 0)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("name", command_names())
def test_a_command_is_what_its_module_or_method_says(name: str) -> None:
    command = load_command(name)
    assert command.options_class.__dataclass_params__.frozen
    assert " ".join(command.description.split()).startswith(command_summary(name))
    assert command_summary(name).endswith(".")
    assert callable(command.run)


def test_a_method_is_a_command_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command(Command, "Recover it otherwise.", print)
    source = Source(lambda: "Recover it otherwise.", lambda: command)
    monkeypatch.setattr(_commands, "method_commands", lambda: {"modes": source, "waves": source})
    names = command_names()
    assert names[names.index("preprocess") + 1 : names.index("invert")] == ["modes", "waves"]
    assert command_summary("modes") == "Recover it otherwise."
    assert load_command("modes") is command
