"""`kinesphere analyze` on a run with a known motion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kinesphere.cli import main as cli


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


def test_bad_input_ends_with_exit_code_2(run_folder: Path, refused: Callable[..., str]) -> None:
    assert "--clusters: 0 is too few" in refused("analyze", run_folder, "--clusters", "0")
