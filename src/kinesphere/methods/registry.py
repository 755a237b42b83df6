"""The methods there are: a further one is its two files and its name in this list."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinesphere.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kinesphere.methods.base import Method

METHOD_NAMES = ("segments", "field", "modes")
"""Names of the methods, of their commands, and of the modules here that hold them."""


@cache
def method_class(name: str) -> type[Method[Any]]:
    """Return the method of that name; its module is imported when it is first asked for."""
    chosen: type[Method[Any]] = import_module(f"kinesphere.methods.{name}").METHOD
    return chosen


def method_of(folder: Path, document: Mapping[str, object]) -> Method[Any]:
    """Return the method of a run folder, with the options that its run.yaml records.

    Parameters
    ----------
    folder
        The run folder.
    document
        What its run.yaml holds.

    Raises
    ------
    InputError
        If it names no known method, or options that the method does not have.
    """
    name = document.get("method")
    if name not in METHOD_NAMES:
        known = ", ".join(METHOD_NAMES)
        raise InputError(
            folder / "run.yaml", f"names no known method ({name!r})", f"Known methods: {known}"
        )
    return method_class(str(name)).from_yaml(folder / "run.yaml")
