"""The command of a method: its options and a run from them, for every method of the registry."""

from __future__ import annotations

from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from kinesphere.methods.base import MethodOptions
from kinesphere.methods.registry import method_class


def options_class(name: str) -> type[Any]:
    """Return the options of a method's command: those of its runs, and the run folder.

    Parameters
    ----------
    name
        A name of the registry.
    """
    options = method_class(name).options_class
    folder = tyro.conf.arg(help="Run folder to make, or to continue.")
    added = [
        ("particles", tyro.conf.Positional[Path]),
        ("out", Annotated[Path, folder]),
    ]
    command = make_dataclass(
        f"{name.title()}CommandOptions", added, bases=(options,), frozen=True, kw_only=True
    )
    return tyro.conf.configure(tyro.conf.OmitArgPrefixes)(command)


def run_command(name: str, options: Any) -> None:
    """Run a method's command.

    Parameters
    ----------
    name
        A name of the registry.
    options
        An instance of its `options_class`.
    """
    of_run = method_class(name).options_class
    chosen = {field.name: getattr(options, field.name) for field in fields(of_run)}
    run_method(name, options.out, of_run(**chosen))


def run_method(name: str, folder: Path, options: MethodOptions) -> None:
    """Train a method's model, infer and fill the run folder, as one of several ranks if it is one.

    Parameters
    ----------
    name
        A name of the registry.
    folder
        The run folder.
    options
        The method's options.
    """
    from kinesphere.ranks import joined
    from kinesphere.runs.job import run_job

    with joined() as ranks:
        run_job(method_class(name)(options), folder, ranks)
