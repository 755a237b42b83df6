"""What a referee reads on the page: what was tested, the number, the null, the verdict, and what
was not tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

from kinesphere.report.volume_evidence import volume_evidence
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
    "Nothing has been tested yet. Until it is, take the motion as a hypothesis: noise, "
    "errors of the poses and a "
)
_UNTESTED += "wrong starting model can all look like motion."
_NO_VOLUMES = "Whether maps made without the structures change as the structures do"


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


def trust_section(found: dict[str, Any] | None, run_name: str) -> str:
    """Write the section: a verdict, a row for each control, and what is left to test."""
    if found is None:
        command = escape(f"kinesphere validate {quote(run_name)}")
        return (
            f'<p class="lead">{escape(_UNTESTED)}</p><p class="verdict none">Test it: '
            f"<code>{command}</code></p>"
        )
    tone = _TONE.get(found["verdict"], "none")
    return (
        f'<p class="verdict {tone}"><strong>{escape(found["verdict"].capitalize())}.</strong> '
        f"{escape(found['reason'])}</p>{_controls_table(found['controls'])}{_not_tested(found['not_tested'])}"
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
