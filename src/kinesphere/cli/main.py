"""The `kinesphere` program: find the command, read its options, run it, and end with the exit code
that fits.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import io
import os
import pkgutil
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import kinesphere.cli
from kinesphere._version import __version__
from kinesphere.errors import KinesphereError
from kinesphere.launch_environment import find_place
from kinesphere.methods.registry import METHOD_NAMES
from kinesphere.runtime import console

PROGRAM = "kinesphere"
USAGE_EXIT_CODE = 2
INTERNAL_EXIT_CODE = 1
KEYBOARD_INTERRUPT_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141

# The order of a user's day; a command not named here is listed after these.
COMMAND_ORDER = (
    "demo",
    "inspect",
    "simulate",
    "preprocess",
    *METHOD_NAMES,
    "invert",
    "reconstruct",
    "volumes",
    "analyze",
    "structures",
    "evaluate",
    "validate",
    "select",
    "report",
)

PARALLEL_COMMANDS = frozenset({*METHOD_NAMES, "reconstruct"})
"""Commands that several processes of torchrun or Slurm share; any other is run by the first
alone."""


def command_names() -> list[str]:
    """List the commands whose module is in `kinesphere.cli`, without importing any."""
    present = {module.name for module in pkgutil.iter_modules(kinesphere.cli.__path__)}
    commands = {name for name in present if name != "main" and not name.startswith("_")}
    commands |= set(METHOD_NAMES)
    return [name for name in COMMAND_ORDER if name in commands] + sorted(
        commands - set(COMMAND_ORDER)
    )


def command_summary(name: str) -> str:
    """Read the first sentence of a command module's docstring from its source, without importing
    it; it may wrap.
    """
    if name in METHOD_NAMES:
        from kinesphere.cli._method import summary_of

        return summary_of(name)
    spec = importlib.util.find_spec(f"{kinesphere.cli.__name__}.{name}")
    if spec is None or spec.origin is None:
        return ""
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return " ".join(docstring.split("\n\n")[0].split()) if docstring else ""


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
                f"{PROGRAM} COMMAND --help lists the options of one command; {PROGRAM} --version "
                "prints the version."
            ),
        ]
    )


def parse_options(name: str, arguments: Sequence[str]) -> tuple[Callable[[Any], None], Any]:
    """Import one command and read its options.

    Parameters
    ----------
    name
        A command that `command_names` lists.
    arguments
        What follows it on the command line.

    Returns
    -------
    tuple
        What runs the command, and its filled-in options.
    """
    import tyro

    run, options_class, description = _command(name)
    with _usage_error_on_one_line(name):
        options = tyro.cli(
            options_class, args=list(arguments), prog=f"{PROGRAM} {name}", description=description
        )
    return run, options


def _command(name: str) -> tuple[Callable[[Any], None], type[Any], str]:
    """Return what runs a command, its options, and what its help begins with."""
    if name in METHOD_NAMES:
        from kinesphere.cli import _method

        run = partial(_method.run_command, name)
        return run, _method.options_class(name), _method.summary_of(name)
    module = importlib.import_module(f"{kinesphere.cli.__name__}.{name}")
    options_class = getattr(module, f"{name.title().replace('_', '')}Options")
    return module.run, options_class, module.__doc__ or ""


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


def _fail(message: str) -> None:
    """Tell the user, in one line on standard error, why the program ends."""
    console.print(
        f"{PROGRAM}: error: {_place_label()}{message}",
        style="red",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _place_label() -> str:
    """Say which process speaks, where there are several."""
    try:
        return find_place().label
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
    run, options = parse_options(command, rest)
    run(options)
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
    os.environ.setdefault(
        "TORCH_CPP_LOG_LEVEL", "ERROR"
    )  # lost connections are reported by what they break
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if find_place().rank > 0:
            if not given or given[0] not in PARALLEL_COMMANDS:
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
