"""The program finds its commands, stays quick, and ends every failure with one line and the right
exit code."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kinesphere.cli
from kinesphere import __version__
from kinesphere.cli import main as cli
from kinesphere.methods.registry import METHOD_NAMES
from kinesphere.runtime import LoggedConsole

FAKE_COMMAND = '''
"""Do what the option says.

More about it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from kinesphere.config import Advanced
from kinesphere.errors import InputError, NumericalError


@dataclass(frozen=True)
class FakeOptions:
    """Options of `kinesphere fake`."""

    particles: tyro.conf.Positional[Path]
    """STAR or .cs file."""
    way: Literal["fine", "input", "numbers", "fault", "interrupt"] = "fine"
    """How it ends."""
    epochs: int = 3
    """Number of passes."""
    tolerance: Advanced[float] = 0.5
    """Smallest
    change."""


def run(options: FakeOptions) -> None:
    if options.way == "input":
        raise InputError(options.particles, "row 3 has no rlnAngleRot", "Give [poses]")
    if options.way == "numbers":
        raise NumericalError("the loss is not finite")
    if options.way == "fault":
        raise RuntimeError("two\\nlines")
    if options.way == "interrupt":
        raise KeyboardInterrupt
    print(options.particles, options.epochs)
'''


@pytest.fixture
def fake_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a command `fake`, and a module that is none, to those that are there."""
    (tmp_path / "fake.py").write_text(textwrap.dedent(FAKE_COMMAND).lstrip(), encoding="utf-8")
    (tmp_path / "_shared_options.py").touch()
    monkeypatch.setattr(kinesphere.cli, "__path__", [*kinesphere.cli.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "kinesphere.cli.fake", raising=False)
    monkeypatch.delenv("KINESPHERE_DEBUG", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.usefixtures("fake_command")
def test_help_lists_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    assert [line.split() for line in page.splitlines() if "fake" in line] == [
        ["fake", "Do", "what", "the", "option", "says."]
    ]
    assert "_shared" not in page
    assert "  main" not in page


@pytest.mark.usefixtures("fake_command")
def test_commands_keep_the_order_of_the_work() -> None:
    names = cli.command_names()
    order = ["demo", "inspect", "preprocess", *METHOD_NAMES, "invert", "reconstruct", "report"]
    assert [name for name in names if name in order] == order
    assert names[-1] == "fake"


@pytest.mark.usefixtures("fake_command")
def test_options_reach_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "a.star", "--epochs", "7"]) == 0
    assert capsys.readouterr().out == "a.star 7\n"


@pytest.mark.usefixtures("fake_command")
def test_command_help_shows_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "--help"]) == 0
    page = capsys.readouterr().out
    assert "kinesphere fake" in page
    assert "Number of passes." in page
    assert "More about it." in page


@pytest.mark.usefixtures("fake_command")
def test_help_leaves_advanced_options_to_help_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "a.star", "-h"]) == 0
    common = capsys.readouterr().out
    assert "--epochs" in common
    assert "--tolerance" not in common
    assert common.splitlines()[-1] == "kinesphere fake --help-all lists 1 more options."
    assert cli.main(["fake", "--help-all"]) == 0
    page = capsys.readouterr().out
    assert "--epochs" in page
    assert "Smallest change." in page
    assert cli.main(["fake", "a.star", "--tolerance", "0.1"]) == 0


@pytest.mark.usefixtures("fake_command")
@pytest.mark.parametrize(
    ("arguments", "exit_code", "expected"),
    [
        (
            ["fake", "a.star", "--way", "input"],
            2,
            "a.star: row 3 has no rlnAngleRot. Give [poses].",
        ),
        (["fake", "a.star", "--way", "numbers"], 1, "the loss is not finite"),
        (["fake", "a.star", "--way", "fault"], 1, "internal error, RuntimeError: two lines"),
        (["fake", "a.star", "--way", "interrupt"], 130, "interrupted"),
        (["fake"], 2, "PATH"),
        (
            ["fake", "a.star", "--epochs", "x"],
            2,
            "--epochs: invalid literal for int() with base 10: 'x'",
        ),
        (["fake", "a.star", "--way", "wrong"], 2, "invalid choice 'wrong' for argument '--way'"),
        (
            ["fake", "a.star", "--epoch", "3"],
            2,
            "Unrecognized options: --epoch, 3. Perhaps you meant: --epochs INT",
        ),
        (["fake", "a.star", "b.star"], 2, "Unrecognized options: b.star"),
        (["fak"], 2, "'fak' is not a command. Did you mean fake?"),
        (["frobnicate"], 2, "'frobnicate' is not a command. See kinesphere --help."),
        (["main"], 2, "'main' is not a command"),
    ],
)
def test_failure_is_one_line_and_an_exit_code(
    arguments: list[str], exit_code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("kinesphere: error: ")
    assert expected in captured.err


@pytest.mark.usefixtures("fake_command")
def test_internal_error_keeps_its_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["fake", "a.star", "--way", "fault"])
    (log,) = tmp_path.glob("kinesphere-error-*.log")
    assert str(log) in capsys.readouterr().err
    assert 'raise RuntimeError("two' in log.read_text(encoding="utf-8")


@pytest.mark.usefixtures("fake_command")
def test_debugging_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINESPHERE_DEBUG", "1")
    assert cli.main(["fake", "a.star", "--way", "fault"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert not list(tmp_path.glob("kinesphere-error-*.log"))


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: kinesphere COMMAND")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"kinesphere {__version__}\n"


HEAVY = {"torch", "numba", "scipy", "sklearn", "gemmi"}


@pytest.mark.parametrize(
    "arguments",
    [(), *((name,) for name in cli.command_names() if name not in {"segments", "field"})],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    program = (
        "import sys; from kinesphere.cli.main import main; code = main([*sys.argv[1:], '--help']); "
        f"sys.exit(code or ' '.join({HEAVY} & sys.modules.keys()) or 0)"
    )
    command = [sys.executable, "-c", program, *arguments]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("usage: kinesphere")


def test_help_is_quick() -> None:
    before = os.times()
    for arguments in (["--help"], ["simulate", "--help"]):
        command = [sys.executable, "-m", "kinesphere", *arguments]
        subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    assert after.children_user - before.children_user < 3.0  # of the processor's time: 0.8 s


@pytest.mark.usefixtures("fake_command")
@pytest.mark.parametrize(
    ("is_screen", "expected"), [(True, [f"kinesphere {__version__} fake a.star"]), (False, [])]
)
def test_work_begins_with_a_line_on_a_screen(
    monkeypatch: pytest.MonkeyPatch, *, is_screen: bool, expected: list[str]
) -> None:
    told = io.StringIO()
    screen = LoggedConsole(file=told, force_terminal=is_screen, color_system=None)
    monkeypatch.setattr(cli, "console", screen)
    assert cli.main(["fake", "a.star"]) == 0
    assert told.getvalue().splitlines() == expected


def test_every_command_says_what_it_does_and_has_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in cli.command_names():
        assert cli.command_summary(name).endswith("."), name
        assert cli.main([name, "--help"]) == 0, name
        assert f"kinesphere {name}" in capsys.readouterr().out


def test_closed_pipe_is_quiet() -> None:
    program = (
        "import sys; from kinesphere.cli import main as cli; "
        "cli.help_page = lambda: 'x' * 10_000_000; sys.exit(cli.main(['--help']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == cli.BROKEN_PIPE_EXIT_CODE


def test_interrupted_loop_exits_as_shells_expect() -> None:
    program = textwrap.dedent("""
        import sys, time, types
        from kinesphere.cli import main as cli
        from kinesphere.runtime import interrupts

        def train(_arguments):
            with interrupts() as flag:
                print("ready", flush=True)
                while not flag.requested:
                    time.sleep(0.01)
                print("saved", flush=True)
                flag.raise_if_requested()

        cli.dispatch = train
        sys.exit(cli.main([]))
    """)
    for number, exit_code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.stdout.readline() == "saved\n"
            assert number.name in process.stderr.read()
            assert process.wait() == exit_code
