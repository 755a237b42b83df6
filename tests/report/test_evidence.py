"""What speaks for the motion: drawn where a reconstruction or a second run is there, else not
mentioned."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.run_agreement import compare_runs
from kinesphere.analysis.summary import Analysis
from kinesphere.report.evidence import trust, trust_section
from kinesphere.report.page import assemble, write_report
from kinesphere.report.payload import payload
from kinesphere.validation.record import RECORD_FILE, SUPPORTED, ControlResult, ValidationRecord

HIDDEN = "document.getElementById('{}').hidden"
CONTROLS = (
    ControlResult(
        "held-out",
        "Is <motion> there?",
        "gain",
        "nats",
        12.34,
        (-0.5, 0.2, 0.1),
        "It is.",
        passed=True,
    ),
    ControlResult("wrong-model", "Is it biased?", "FSC", "", -0.021, (), "Perhaps.", passed=False),
)


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


def recorded(folder: Path) -> dict[str, Any]:
    path = folder / RECORD_FILE
    path.parent.mkdir(parents=True)
    ValidationRecord(
        SUPPORTED, "Because.", CONTROLS, (("poses", "kinesphere validate run --control poses"),)
    ).save(path)
    found = trust(folder)
    assert found is not None
    return found


def test_every_control_is_shown_with_its_number_its_null_and_its_verdict(tmp_path: Path) -> None:
    section = trust_section(recorded(tmp_path), "run")
    assert "Motion supported." in section
    assert "12.3 nats" in section
    assert "−0.5 to 0.2 (3)" in section
    assert "−0.021" in section
    assert section.count("✓") == 1
    assert section.count("✗") == 1
    assert "kinesphere validate run --control poses" in section


def test_volumes_made_without_the_structures_are_part_of_the_evidence(tmp_path: Path) -> None:
    assert "kinesphere volumes" in trust_section(recorded(tmp_path / "none"), "run")
    moving = {"n_moving": 100, "n_moving_unsupported": 7, "correlation_moving_median": 0.876}
    summary = {
        "fingerprint": "",
        "residues": {"kernel": moving, "decoder": moving | {"n_moving_unsupported": 60}},
        "decoder": {"gain_nats": [4.5, -0.25], "gain_error_nats": [0.5, 0.125]},
    }
    (tmp_path / "some" / "volumes").mkdir(parents=True)
    (tmp_path / "some" / "volumes" / "volumes.json").write_text(
        json.dumps(summary), encoding="utf-8"
    )
    section = trust_section(recorded(tmp_path / "some"), "run")
    assert "kinesphere volumes" not in section
    assert "4.5 ± 0.5, −0.25 ± 0.12 nats" in section
    assert "One map does as well." in section
    assert "Of 100 moving residues, density supports 93" in section
    assert section.count("✓") == 2  # a control, and the kernel volumes
    assert section.count("✗") == 3


def test_text_is_escaped(tmp_path: Path) -> None:
    section = trust_section(recorded(tmp_path), "run")
    assert "&lt;motion&gt;" in section
    assert "<motion>" not in section


def test_a_page_without_validation_says_how_to_get_one(run: Any, analysis: Analysis) -> None:
    assert trust(run.path) is None
    page = assemble(payload(run, analysis))
    assert "Nothing has been tested yet" in page
    assert escape(f"kinesphere validate {quote(run.path.resolve().name)}") in page
