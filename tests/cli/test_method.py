"""The command of a method: the options of its runs, and the folder; nothing else is added."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from kinesphere.cli._method import options_class, run_command
from kinesphere.methods.registry import METHOD_NAMES, method_class


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_command_asks_for_what_a_run_needs_and_a_folder(name: str) -> None:
    of_run = {entry.name: entry for entry in fields(method_class(name).options_class)}
    of_command = {entry.name: entry for entry in fields(options_class(name))}
    assert set(of_command) == {*of_run, "out"}
    assert of_command["out"].default is MISSING
    for key, entry in of_run.items():
        assert of_command[key].default == entry.default
        assert of_command[key].default_factory == entry.default_factory


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_command_runs_its_method_with_what_was_chosen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Any, Path]] = []
    monkeypatch.setattr(
        "kinesphere.runs.job.run_job",
        lambda method, folder, _ranks: started.append((method, folder)),
    )
    files = {"particles": Path("p.star"), "map": Path("map.mrc"), "model": Path("m.pdb")}
    command = options_class(name)(**files, out=Path("run"), ignore_misfit=True)
    run_command(name, command)
    ((method, folder),) = started
    assert folder == Path("run")
    assert type(method) is method_class(name)
    assert type(method.options) is method_class(name).options_class
    assert method.options.ignore_misfit
    assert method.options.input_files == (Path("p.star"), Path("m.pdb"), Path("map.mrc"))
