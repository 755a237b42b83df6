"""`analyze`, `structures` and `report` on a run with a known motion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import fake_run
from kinesphere.cli import main as cli


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


def test_analyze_writes_and_says_what_moves(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["analyze", str(run_folder), "--frames", "3", "--components", "1"]) == 0
    assert "A:73-108" in " ".join(capsys.readouterr().err.split())
    names = {path.name for path in (run_folder / "analysis").iterdir()}
    assert {
        "components.csv",
        "segments.csv",
        "bodies.csv",
        "clusters.csv",
        "distances.csv",
        "summary.json",
    } <= names
    assert {"pc1_trajectory.pdb", "motion_coloured.cif", "open_in_chimerax.cxc"} <= names
    assert "pc2_trajectory.pdb" not in names


def test_report_writes_the_page_and_the_tables(run_folder: Path) -> None:
    assert cli.main(["report", str(run_folder), "--frames", "3"]) == 0
    assert (run_folder / "report.html").stat().st_size > 600_000
    assert (run_folder / "analysis" / "bodies.csv").is_file()


def test_structures_of_chosen_images(run_folder: Path) -> None:
    out = run_folder / "some.npz"
    assert cli.main(["structures", str(run_folder), "--images", "4,2", "--out", str(out)]) == 0
    with np.load(out) as stored:
        assert stored["index"].tolist() == [4, 2]


def test_bad_input_ends_in_one_line_and_exit_code_2(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(
            ["structures", str(run_folder), "--images", "4,900", "--out", str(run_folder / "a.npz")]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert "particle 900 is not in" in error
    assert error.count("\n") == 1
    assert cli.main(["analyze", str(run_folder), "--clusters", "0"]) == 2
