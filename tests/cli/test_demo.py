"""`kinesphere demo` makes its own particles, ends with a report and numbers, and goes on where it
was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinesphere.cli.main import main


def test_ends_with_a_report_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "demo",
        "--out",
        str(tmp_path / "demo"),
        "--images",
        "80",
        "--epochs",
        "1",
        "--threads",
        "1",
    ]
    assert main(command) == 0
    told = capsys.readouterr().err
    for part in (
        "kinesphere simulate",
        "kinesphere segments",
        "kinesphere field",
        "kinesphere reconstruct",
        "kinesphere evaluate",
        "kinesphere report",
        "ideal observer",
    ):
        assert part in told
    assert str(tmp_path / "demo" / "report.html") in told.replace("\n", "")
    assert "<html" in (tmp_path / "demo" / "report.html").read_text()[:200]
    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())
    assert list(scores) == ["segments", "field"]
    for found in scores.values():
        assert found["n"] == 80
        assert found["still_rmsd_median"] > 3.0
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "A run of kinesphere field on the same particles" in page
    assert "Each image was put back along its own motion" in page

    particles = tmp_path / "demo" / "data" / "particles.mrcs"
    run = tmp_path / "demo" / "segments" / "checkpoints" / "latest"
    density = tmp_path / "demo" / "field" / "reconstruction" / "map.mrc"
    before = [path.stat().st_mtime_ns for path in (particles, run, density)]
    assert main(command) == 0
    assert [path.stat().st_mtime_ns for path in (particles, run, density)] == before
    assert "there already" in capsys.readouterr().err

    assert main([*command[:-2], "--seed", "1"]) == 2
    assert "other options" in capsys.readouterr().err
