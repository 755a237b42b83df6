"""The referee's part of the page: every number, null and verdict that was recorded, and nothing
executable."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

from kinesphere.analysis.summary import Analysis
from kinesphere.report.page import assemble
from kinesphere.report.payload import payload
from kinesphere.report.trust import trust, trust_section
from kinesphere.validation.record import RECORD_FILE, SUPPORTED, ControlResult, ValidationRecord

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
