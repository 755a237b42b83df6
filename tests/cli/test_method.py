"""The command of a method has the method's options, and its run folder besides."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kinesphere.cli import _method
from kinesphere.methods.registry import METHOD_NAMES, method_class


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_options_are_those_of_the_method_and_the_run_folder(name: str) -> None:
    of_method = {field.name for field in fields(method_class(name).options_class)}
    of_command = {field.name for field in fields(_method.options_class(name))}
    assert of_command == of_method | {"out"}


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_they_reach_the_method(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[tuple[Any, ...]] = []
    monkeypatch.setattr(_method, "run_method", lambda *given: passed.append(given))
    inputs = {"particles": Path("p.star"), "model": Path("m.cif"), "map": Path("c.mrc")}
    options = _method.options_class(name)(**inputs, out=Path("run"))
    _method.run_command(name, options)
    ((method, folder, chosen),) = passed
    assert (method, folder) == (name, Path("run"))
    assert chosen == method_class(name).options_class(**inputs)
