"""Runs that several commands are tested on, and how a refusal has to look."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_run, field_run
from kinesphere.cli.main import main


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A particle set with its map, and a field run on it that has hardly begun to learn."""
    folder = tmp_path_factory.mktemp("made")
    data = folder / "set"
    size = ("--n", str(field_run.N_IMAGES), *field_run.SIMULATED)
    assert main(["simulate", "--out", str(data), *size]) == 0
    command = ["field", *field_run.inputs(data), "--out", str(folder / "run"), *field_run.BRIEF]
    assert main(command) == 0
    return folder


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused, leave nothing behind, and return the line it is refused
    with."""

    def run(*arguments: str | Path) -> str:
        capsys.readouterr()
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert code == 2, printed.err
        assert printed.out == ""
        lines = printed.err.splitlines()
        assert len(lines) == 1, printed.err
        assert lines[0].startswith("kinesphere: error: ")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return lines[0]

    return run


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `kinesphere.load` turns into the known run."""
    folder = tmp_path / "run"
    folder.mkdir()

    def load(path: Path) -> Any:
        assert path == folder
        return fake_run.hinge_run(folder, n=300)

    for command in ("analyze", "structures", "report"):
        __import__(f"kinesphere.cli.{command}")
        monkeypatch.setattr(sys.modules[f"kinesphere.cli.{command}"], "load", load)
    return folder
