"""The `kinesphere` program: find the command, read its options, run it, and end with the exit code
that fits.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from kinesphere._version import __version__
from kinesphere.cli._commands import (
    Command,
    command_names,
    command_summary,
    load_command,
    method_commands,
)
from kinesphere.cli._options import common_only, in_groups, options_of
from kinesphere.errors import KinesphereError
from kinesphere.launch_environment import find_launch_environment
from kinesphere.runtime import console

PROGRAM = "kinesphere"
USAGE_EXIT_CODE = 2
INTERNAL_EXIT_CODE = 1
KEYBOARD_INTERRUPT_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141

RESULT_ON_STDOUT = frozenset({"inspect", "evaluate", "completion"})
"""Commands whose result is what they print; the others say at once what they begin."""


def is_parallel(name: str) -> bool:
    """Tell whether several processes of torchrun or Slurm share a command; any other is run by the
    first alone.
    """
    return name == "reconstruct" or name in method_commands()


def help_page() -> str:
    """Write what `kinesphere --help` prints."""
    names = command_names()
    width = max(map(len, names), default=0)
    rows = [f"  {name:<{width}}  {command_summary(name)}".rstrip() for name in names]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [options]",
            "",
            "Recovers how molecules move from single-particle cryo-EM images.",
            "",
            "commands:",
            *rows,
            "",
            (
                f"{PROGRAM} COMMAND --help lists the common options of a command, --help-all every "
                f"one. {PROGRAM} --version prints the version."
            ),
        ]
    )


def parse_options(name: str, command: Command, arguments: Sequence[str]) -> Any:
    """Read a command's options; `--help` shows the common ones, `--help-all` all of them.

    Parameters
    ----------
    name
        Its name.
    command
        What it is made of.
    arguments
        What follows it on the command line.

    Returns
    -------
    Any
        Its filled-in options.
    """
    with _usage_error_on_one_line(name):
        if "--help-all" in arguments:
            return _parse(name, command, in_groups(command.options_class), ["--help"])
        if "--help" in arguments or "-h" in arguments:
            return _show_common_options(name, command)
        return _parse(name, command, command.options_class, arguments)


def _show_common_options(name: str, command: Command) -> Any:
    """Print the help page, say how many options it leaves out, and end the program as tyro does."""
    options = options_of(command.options_class)
    n_more = sum(option.is_advanced for option in options)
    try:
        return _parse(name, command, common_only(options), ["--help"])
    finally:
        if n_more:
            sys.stdout.write(f"{PROGRAM} {name} --help-all lists {n_more} more options.\n")


def _parse(name: str, command: Command, options_class: type, arguments: Sequence[str]) -> Any:
    import tyro

    return tyro.cli(
        options_class,
        args=list(arguments),
        prog=f"{PROGRAM} {name}",
        description=command.description,
    )


@contextmanager
def _usage_error_on_one_line(name: str) -> Iterator[None]:
    """Say in one line what tyro frames over several."""
    framed = io.StringIO()
    try:
        with redirect_stderr(framed):
            yield
    except SystemExit as stop:
        if stop.code:
            _fail(f"{_unframe(framed.getvalue())}. See {PROGRAM} {name} --help")
        raise
    sys.stderr.write(framed.getvalue())


def _unframe(text: str) -> str:
    """Take out of a framed message, whose sections rules divide, what is wrong and what may have
    been meant.

    The first line is the frame's title. Lines are of box-drawing characters, or hyphens where the
    terminal has none.
    """
    content = " ".join(line.strip("│╰╯ ") for line in text.splitlines()[1:])
    sections = [" ".join(section.split()) for section in re.split(r"─{3,}|-{3,}", content)]
    problem, *others = filter(None, sections)
    kept = [problem, *(section for section in others if section.startswith("Perhaps"))]
    return ". ".join(section.rstrip(".") for section in kept)


def _announce(name: str, options: Any) -> None:
    """Say on a screen what begins, since what the work needs may take seconds to import.

    A log gets no such line: there, what a command refuses stays a single line.
    """
    if not console.is_terminal:
        return
    given = [
        value
        for option in options_of(type(options))
        if option.is_positional and isinstance(value := getattr(options, option.name), Path)
    ]
    out = getattr(options, "out", None)
    result = () if out is None else ("→", out)
    words = map(str, (PROGRAM, __version__, name, *given, *result))
    console.print(*words, style="dim", markup=False, highlight=False, soft_wrap=True)


def _fail(message: str) -> None:
    """Tell the user, in one line on standard error, why the program ends."""
    console.print(
        f"{PROGRAM}: error: {_rank_label()}{message}",
        style="red",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _rank_label() -> str:
    """Say which process speaks, where there are several."""
    try:
        return find_launch_environment().label
    except KinesphereError:  # which then is the message
        return ""


def _report_internal_error(error: Exception) -> None:
    """Say that the fault is the program's own, and keep the traceback where the user can send it
    from.
    """
    summary = f"internal error, {type(error).__name__}: {' '.join(str(error).split())}"
    details = "".join(traceback.format_exception(error))
    if os.environ.get("KINESPHERE_DEBUG") == "1":
        _fail(summary)
        sys.stderr.write(details)
        return
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"{PROGRAM}-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(f"{PROGRAM} {__version__}, arguments {sys.argv[1:]}\n{details}")
    _fail(f"{summary}. Details in {log.name}; please send it with a bug report")


def _silence_stdout() -> None:
    """Point standard output nowhere; after a pipe has closed, Python's last flush does not complain
    then either.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command line; exceptions pass through.

    Parameters
    ----------
    arguments
        Without the program's name.

    Returns
    -------
    int
        The exit code.
    """
    names = command_names()
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        (sys.stdout if arguments else sys.stderr).write(help_page() + "\n")
        return 0 if arguments else USAGE_EXIT_CODE
    command, *rest = arguments
    if command in {"-V", "--version"}:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return 0
    if command not in names:
        near = difflib.get_close_matches(command, names, n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"See {PROGRAM} --help."
        _fail(f"{command!r} is not a command. {remedy}")
        return USAGE_EXIT_CODE
    chosen = load_command(command)
    options = parse_options(command, chosen, rest)
    if command not in RESULT_ON_STDOUT:
        _announce(command, options)
    chosen.run(options)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Threads that wait for one another sleep instead of spinning: on a machine that is busy with
    other work, spinning made training on two cores eight times slower. The choice has to stand
    before PyTorch is imported.

    Parameters
    ----------
    arguments
        Without the program's name; None takes them from the command line.

    Returns
    -------
    int
        0 done; 2 usage or input; 1 a fault of the program; 130 and 143 after an interrupt.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # lost connections are reported by what they break
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if find_launch_environment().rank > 0:
            if not given or not is_parallel(given[0]):
                return 0
            console.quiet = True
            _silence_stdout()
        exit_code = dispatch(given)
        sys.stdout.flush()
    except KinesphereError as error:
        _fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _fail("interrupted")
        return KEYBOARD_INTERRUPT_EXIT_CODE
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE_EXIT_CODE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE_EXIT_CODE if stop.code else 0
    except Exception as error:  # noqa: BLE001 - the last resort, which is where a traceback becomes one line
        _report_internal_error(error)
        return INTERNAL_EXIT_CODE
    return exit_code
