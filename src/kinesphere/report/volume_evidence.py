"""What volumes made without the structures say for the motion, as rows of the referee's table."""

from __future__ import annotations

from typing import Any

_ERRORS_ABOVE = 3.0


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
        _structures(method, found)
        for method, found in summary["residues"].items()
        if found["n_moving"]
    ]


def _decoder(found: dict[str, list[float]]) -> dict[str, Any]:
    pairs = list(zip(found["gain_nats"], found["gain_error_nats"], strict=True))
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


def _structures(method: str, found: dict[str, Any]) -> dict[str, Any]:
    unsupported, moving = found["n_moving_unsupported"], found["n_moving"]
    return {
        "question": f"Does density change as the structures do ({method} volumes)?",
        "statistic": "correlation of changes around residues that move by more than 1 Å, median",
        "value": f"{found['correlation_moving_median']:.2f}".replace("-", "−"),
        "null": "0",
        "verdict": f"Of {moving} moving residues, density supports {moving - unsupported}; "
        "which, residues.csv says.",
        "passed": unsupported * 2 < moving,
    }
