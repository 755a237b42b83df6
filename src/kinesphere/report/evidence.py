"""What speaks for the motion and against it: controls, volumes, the sharper map; and what was not
tested.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from kinesphere.validation.record import (
    NO_MOTION,
    RECORD_FILE,
    SUPPORTED,
    ControlResult,
    ValidationRecord,
)
from kinesphere.volumes.job import read_summary

_TONE = {SUPPORTED: "good", NO_MOTION: "bad"}
_UNTESTED = (
    "Nothing has been tested yet. Until it is, take the motion as a hypothesis: noise, errors of "
    "the poses and a wrong starting model can all look like motion."
)
_NO_VOLUMES = "Whether maps made without the structures change as the structures do"
_ERRORS_ABOVE = 3.0


def trust(run_path: Path) -> dict[str, Any] | None:
    """Read what `kinesphere validate` found of a run, and `kinesphere volumes` in its folder.

    Parameters
    ----------
    run_path
        The run folder.

    Returns
    -------
    dict or None
        `verdict`, `reason`, `controls` and `not_tested`, ready for JSON; none where nothing was
        tested.
    """
    path = run_path / RECORD_FILE
    if not path.is_file():
        return None
    record = ValidationRecord.load(path)
    controls = [_control(control) for control in record.controls]
    not_tested = [list(pair) for pair in record.not_tested]
    volumes = read_summary(run_path / "volumes")
    if volumes is None:
        not_tested.append([_NO_VOLUMES, f"kinesphere volumes {quote(run_path.resolve().name)}"])
    else:
        controls += volume_evidence(volumes)
    return {
        "verdict": record.verdict,
        "reason": record.reason,
        "controls": controls,
        "not_tested": not_tested,
    }


def trust_section(record: dict[str, Any] | None, run_name: str) -> str:
    """Write the section: a verdict, a row for each control, and what is left to test."""
    if record is None:
        command = escape(f"kinesphere validate {quote(run_name)}")
        return (
            f'<p class="lead">{escape(_UNTESTED)}</p><p class="verdict none">Test it: '
            f"<code>{command}</code></p>"
        )
    tone = _TONE.get(record["verdict"], "none")
    return (
        f'<p class="verdict {tone}"><strong>{escape(record["verdict"].capitalize())}.</strong> '
        f"{escape(record['reason'])}</p>{_controls_table(record['controls'])}{_not_tested(record['not_tested'])}"
    )


def _control(control: ControlResult) -> dict[str, Any]:
    return {
        "question": control.question,
        "statistic": control.statistic,
        "value": _measured(control.value, control.unit),
        "null": _null(control.null, control.unit),
        "verdict": control.verdict,
        "passed": control.passed,
    }


def _measured(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".strip().replace("-", "−")


def _null(null: Sequence[float], unit: str) -> str:
    """Give the range of the null, and of how many values."""
    if not null:
        return "–"
    if len(null) == 1:
        return _measured(null[0], unit)
    low, high = min(null), max(null)
    return f"{low:.3g} to {high:.3g} ({len(null)})".replace("-", "−")


def _controls_table(controls: Sequence[dict[str, Any]]) -> str:
    heads = ("Question", "Measured", "Null", "Verdict")
    kinds = ("", ' class="number"', ' class="number"', "")
    head = "".join(f"<th{kind}>{name}</th>" for name, kind in zip(heads, kinds, strict=True))
    rows = "".join(
        f"<tr><td>{escape(c['question'])}<span "
        f'class="statistic">{escape(c["statistic"])}</span></td>'
        f'<td class="number">{escape(c["value"])}</td><td class="number">{escape(c["null"])}</td>'
        '<td><span class="mark '
        f'{"good" if c["passed"] else "bad"}">{"✓" if c["passed"] else "✗"}</span> '
        f"{escape(c['verdict'])}</td></tr>"
        for c in controls
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="card scroll controls-table">{table}</div>'


def _not_tested(pairs: Sequence[Sequence[str]]) -> str:
    if not pairs:
        return ""
    items = "".join(
        f"<li><strong>{escape(what)}</strong><code>{escape(command)}</code></li>"
        for what, command in pairs
    )
    return f'<h3>Not tested</h3><ul class="caveats">{items}</ul>'


def volume_evidence(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Put what `kinesphere volumes` found into the form of the controls' results.

    Parameters
    ----------
    summary
        As in `volumes.json`.

    Returns
    -------
    list of dict
        `question`, `statistic`, `value`, `null`, `verdict` and `passed`, ready for JSON.
    """
    rows = [_decoder(summary["decoder"])] if "decoder" in summary else []
    return rows + [
        _structures(method, residues)
        for method, residues in summary["residues"].items()
        if residues["n_moving"]
    ]


def _decoder(decoder: dict[str, list[float]]) -> dict[str, Any]:
    pairs = list(zip(decoder["gain_nats"], decoder["gain_error_nats"], strict=True))
    passed = all(gain > _ERRORS_ABOVE * error for gain, error in pairs)
    return {
        "question": "Do images need more than one map, structures aside?",
        "statistic": "log-likelihood gained in unseen images by the volume decoder of each "
        "half set",
        "value": ", ".join(f"{gain:.3g} ± {error:.2g}" for gain, error in pairs).replace("-", "−")
        + " nats",
        "null": "0 nats",
        "verdict": "Maps that depend on the latents predict unseen images better."
        if passed
        else "One map does as well.",
        "passed": passed,
    }


def _structures(method: str, residues: dict[str, Any]) -> dict[str, Any]:
    unsupported = residues["n_moving_unsupported"]
    moving = residues["n_moving"]
    return {
        "question": f"Does density change as the structures do ({method} volumes)?",
        "statistic": "correlation of changes around residues that move by more than 1 Å, median",
        "value": f"{residues['correlation_moving_median']:.2f}".replace("-", "−"),
        "null": "0",
        "verdict": f"Of {moving} moving residues, density supports {moving - unsupported}; "
        "which, residues.csv says.",
        "passed": unsupported * 2 < moving,
    }


def sharpness(run: Path, method: str) -> dict[str, Any] | None:
    """Read the FSC curves of a finished reconstruction.

    Parameters
    ----------
    run
        The run folder.
    method
        What found the motion.

    Returns
    -------
    dict
        Spatial frequencies (1/Å), curves with and without motion, and a sentence; nothing where
        there is no reconstruction, or one that left the motion out.
    """
    folder = run / "reconstruction"
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        table = np.genfromtxt(folder / "fsc.csv", delimiter=",", names=True)
    except (OSError, ValueError):
        return None
    if summary["homogeneous"]:
        return None
    return {
        "frequency": (1.0 / table["resolution_angstrom"]).tolist(),
        "still": table["corrected_without_motion"].tolist(),
        "moved": table["corrected"].tolist(),
        "sentence": _sentence(summary, method),
    }


def _sentence(summary: dict[str, Any], method: str) -> str:
    nyquist = 2.0 * summary["pixel_size_angstrom"]

    def resolution(name: str) -> str:
        value = summary[name]
        return (
            f"{value:.1f} Å"
            if value > 1.001 * nyquist
            else f"{nyquist:.1f} Å, the limit of the pixels"
        )

    before = resolution("resolution_without_motion_angstrom")
    after = resolution("resolution_angstrom")
    how = (
        f"least squares, {summary['iterations']} iterations"
        if summary["iterations"]
        else "filtered backprojection"
    )
    shared = (
        " One motion model saw both half sets, so that part of what they share may be fitted noise."
        if summary["motion_is_shared"]
        else " Neither images nor motion models are shared by the two half sets."
    )
    fsc = f"mean FSC {summary['mean_fsc_without_motion']:.2f} and {summary['mean_fsc']:.2f}"
    return (
        f"Each image was put back along its own motion, as {method} found it ({how}). "
        "Resolution where the half maps "
        f"agree to FSC 0.143: {before} without the motion, {after} with it; {fsc}.{shared}"
    )
