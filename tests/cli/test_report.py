"""`report` on runs with a known motion: one page and the tables, alone or beside another run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.fake_run import FakeRun, hinge_run
from kinesphere.cli.main import main


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `kinesphere.load` turns into a known run, whichever folder it is."""
    folder = tmp_path / "run"
    folder.mkdir()

    class Carrying(FakeRun):
        def with_model(self, model: object) -> FakeRun:  # noqa: ARG002 - it moves that very model
            return self

    def load(path: Path) -> FakeRun:
        return Carrying(**vars(hinge_run(path, n=200)))

    __import__("kinesphere.cli.report")
    monkeypatch.setattr(sys.modules["kinesphere.cli.report"], "load", load)
    return folder


def test_the_page_and_the_tables_agree_on_how_finely_was_analysed(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run_folder), "--frames", "3", "--components", "1"]) == 0
    # a long path wraps anywhere on the console
    assert "report.htmlinabrowser" in "".join(capsys.readouterr().err.split())
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    assert page[:15].lower() == "<!doctype html>"
    names = {path.name for path in (run_folder / "analysis").iterdir()}
    assert "pc1_trajectory.pdb" in names
    assert "pc2_trajectory.pdb" not in names


def test_a_run_beside_itself_agrees(run_folder: Path) -> None:
    brief = ["--frames", "3", "--components", "1"]
    assert main(["report", str(run_folder), *brief]) == 0
    alone = (run_folder / "report.html").read_text(encoding="utf-8")
    assert main(["report", str(run_folder), "--beside", str(run_folder), *brief]) == 0
    beside = (run_folder / "report.html").read_text(encoding="utf-8")
    assert '"agreement"' in beside
    assert len(beside) > len(alone)
