"""Which commands there are, and what each is made of, without importing any before it is called
for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kinesphere.cli
from kinesphere.methods.registry import METHOD_NAMES, method_class

# The order of a user's day, around the methods; a command not named here is listed after these.
_BEFORE_METHODS = (
    "demo",
    "inspect",
    "simulate",
    "preprocess",
)
_AFTER_METHODS = (
    "invert",
    "reconstruct",
    "volumes",
    "analyze",
    "structures",
    "evaluate",
    "validate",
    "select",
    "report",
    "completion",
)


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Parameters
    ----------
    options_class
        Dataclass of its options.
    description
        What its help page begins with.
    run
        Does it.
    """

    options_class: type
    description: str
    run: Callable[[Any], None]


@dataclass(frozen=True)
class Source:
    """Where a command comes from, before it is imported.

    Parameters
    ----------
    summary
        Returns what it does, in a sentence.
    load
        Imports it.
    """

    summary: Callable[[], str]
    load: Callable[[], Command]


def command_sources() -> dict[str, Source]:
    """Find the commands: a module each in this folder, and one for each way to recover motion."""
    methods = method_commands()
    found = {**_module_commands(), **methods}
    order = (*_BEFORE_METHODS, *methods, *_AFTER_METHODS)
    known = [name for name in order if name in found]
    return {name: found[name] for name in (*known, *sorted(found.keys() - set(known)))}


def command_names() -> list[str]:
    """List the commands, without importing any."""
    return list(command_sources())


def command_summary(name: str) -> str:
    """Say what a command does, without importing it."""
    return command_sources()[name].summary()


def load_command(name: str) -> Command:
    """Import a command that `command_names` lists."""
    return command_sources()[name].load()


def method_commands() -> Mapping[str, Source]:
    """List the commands that train a model, one a method of the registry."""
    return {
        name: Source(partial(_method_summary, name), partial(_load_method, name))
        for name in METHOD_NAMES
    }


def _method_summary(name: str) -> str:
    return method_class(name).summary


def _load_method(name: str) -> Command:
    from kinesphere.cli import _method  # it takes tyro a moment, which `--help` need not spend

    run = partial(_method.run_command, name)
    return Command(_method.options_class(name), _method_summary(name), run)


def _module_commands() -> dict[str, Source]:
    names = {module.name for module in pkgutil.iter_modules(kinesphere.cli.__path__)}
    return {
        name: Source(partial(_module_summary, name), partial(_load_module, name))
        for name in names
        if name != "main" and not name.startswith("_")
    }


def _module_summary(name: str) -> str:
    """Read the first sentence of a module's docstring, which may wrap, from its source."""
    spec = importlib.util.find_spec(f"{kinesphere.cli.__name__}.{name}")
    if spec is None or spec.origin is None:
        return ""
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return " ".join(docstring.split("\n\n")[0].split()) if docstring else ""


def _load_module(name: str) -> Command:
    module = importlib.import_module(f"{kinesphere.cli.__name__}.{name}")
    options_class = getattr(module, f"{name.title().replace('_', '')}Options")
    return Command(options_class, module.__doc__ or "", module.run)
