"""What speaks for the motion: drawn where a reconstruction or a second run is there, else not
mentioned."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.run_agreement import compare_runs
from kinesphere.analysis.summary import Analysis
from kinesphere.report.page import write_report

HIDDEN = "document.getElementById('{}').hidden"


def reconstruction(folder: Path, **changes: Any) -> None:
    """Files of a reconstruction at 2 Å a pixel whose FSC falls at shell 10 without motion and at 14
    with it."""
    folder.mkdir(parents=True)
    summary = {
        "resolution_angstrom": 9.1,
        "resolution_without_motion_angstrom": 12.8,
        "mean_fsc": 0.55,
        "mean_fsc_without_motion": 0.42,
        "pixel_size_angstrom": 2.0,
        "iterations": 0,
        "homogeneous": False,
        "motion_is_shared": False,
        **changes,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    shells = np.arange(1, 32)
    columns = [shells, 128 / shells, 1 / (1 + np.exp(shells - 14)), 1 / (1 + np.exp(shells - 10))]
    header = "shell,resolution_angstrom,corrected,corrected_without_motion"
    np.savetxt(folder / "fsc.csv", np.stack(columns, 1), delimiter=",", header=header, comments="")


@pytest.fixture
def supported(run: Any, analysis: Analysis, tmp_path: Path) -> Path:
    reconstruction(tmp_path / "run" / "reconstruction")
    moved = replace(run, path=tmp_path / "run", provenance={**run.provenance, "method": "field"})
    agreement = compare_runs(moved, analysis, moved, lambda _: moved)
    return write_report(moved, analysis, tmp_path / "report.html", agreement)


def test_the_page_says_what_map_and_second_run_show(supported: Path) -> None:
    text = supported.read_text(encoding="utf-8")
    assert "as field found it (filtered backprojection)" in text
    assert "12.8 Å without the motion, 9.1 Å with it; mean FSC 0.42 and 0.55" in text
    assert "Neither images nor motion models are shared by the two half sets." in text
    assert "correlate with r = 1.000" in text


def test_the_map_of_the_run_beside_stands_in_for_a_missing_one(
    run: Any, analysis: Analysis, tmp_path: Path
) -> None:
    nyquist = {"resolution_angstrom": 4.0, "motion_is_shared": True, "iterations": 10}
    reconstruction(tmp_path / "beside" / "reconstruction", **nyquist)
    beside = replace(
        run, path=tmp_path / "beside", provenance={**run.provenance, "method": "other"}
    )
    bare = replace(run, path=tmp_path / "run")
    agreement = compare_runs(bare, analysis, beside, lambda _: beside)
    text = write_report(bare, analysis, tmp_path / "report.html", agreement).read_text(
        encoding="utf-8"
    )
    assert "as other found it (least squares, 10 iterations)" in text
    assert "4.0 Å, the limit of the pixels with it" in text
    assert "One motion model saw both half sets" in text


def test_without_either_nothing_is_claimed(
    page: Path, run: Any, analysis: Analysis, tmp_path: Path
) -> None:
    reconstruction(tmp_path / "run" / "reconstruction", homogeneous=True)
    still = write_report(replace(run, path=tmp_path / "run"), analysis, tmp_path / "report.html")
    for path in (page, still):
        assert "put back along its own motion" not in path.read_text(encoding="utf-8")


@pytest.mark.oracle
def test_both_figures_are_drawn(supported: Path, browse: Callable[..., Any]) -> None:
    with browse(supported, width=1200) as browser:
        assert browser.evaluate("document.querySelectorAll('#sharpness path').length") == 2
        assert browser.evaluate("document.querySelectorAll('#agreement circle').length") == 1000
        assert not browser.evaluate(HIDDEN.format("evidence-section"))
        assert browser.problems == []


@pytest.mark.oracle
def test_the_section_is_hidden_where_there_is_nothing_to_show(
    page: Path, browse: Callable[..., Any]
) -> None:
    with browse(page) as browser:
        assert browser.evaluate(HIDDEN.format("evidence-section"))
        assert browser.problems == []
