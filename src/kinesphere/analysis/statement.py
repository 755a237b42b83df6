"""What the analysis found, in sentences that claim no more than it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kinesphere.analysis.bodies import GroupMotion
from kinesphere.analysis.summary import Analysis

NOTICEABLE_ANGSTROM = 0.5
NOTICEABLE_DEGREES = 2.0
RESOLVED_RATIO = 2.0
MAXIMUM_RANGES = 3


@dataclass(frozen=True)
class Statement:
    """A headline, the sentence on how sure it is, and one sentence for each moving body."""

    headline: str
    certainty: str
    details: tuple[str, ...]


def state(analysis: Analysis) -> Statement:
    """Put the result into plain words.

    Parameters
    ----------
    analysis
        Of a finished run.

    Returns
    -------
    Statement
        Angles and distances are ranges from the 5th to the 95th percentile of the particles, seen
        from the core.
    """
    moving = sorted(
        analysis.bodies.bodies[1:], key=lambda body: body.relative_amplitude_angstrom, reverse=True
    )
    return Statement(
        _headline(analysis, moving), _certainty(analysis), tuple(_detail(body) for body in moving)
    )


def body_name(body: GroupMotion) -> str:
    """Name a body as the tables do."""
    return f"body {body.number + 1}"


def short_ranges(ranges: str, maximum: int = MAXIMUM_RANGES) -> str:
    """Cut a long list of residue ranges."""
    ends = [match.start() for match in re.finditer("[ ,]|$", ranges)]
    if len(ends) <= maximum:
        return ranges
    return f"{ranges[: ends[maximum - 1]]} and {len(ends) - maximum} more"


def _headline(analysis: Analysis, moving: list[GroupMotion]) -> str:
    rms = analysis.ensemble.rms_motion_angstrom
    if rms < NOTICEABLE_ANGSTROM:
        return (
            f"Nothing moves noticeably: residues stay within {rms:.2f} Å (RMS) of their "
            "mean positions."
        )
    if not moving:
        tolerance = analysis.bodies.tolerance_angstrom
        return (
            "The molecule moves as one piece: no part shifts against the rest by more than "
            f"{tolerance:.1f} Å (RMS)."
        )
    first = moving[0]
    movement = _movement(first, "turn", "travel")
    rest = "the rest of the molecule" if len(moving) == 1 else "the core of the molecule"
    also = "" if len(moving) == 1 else f" {_others(len(moving) - 1)} too."
    return f"Residues {short_ranges(first.ranges)} {movement} against {rest}.{also}"


def _others(n: int) -> str:
    """Count the further parts, in words while they are few."""
    words = {1: "One other part moves", 2: "Two other parts move", 3: "Three other parts move"}
    return words.get(n, f"{n} other parts move")


def _movement(body: GroupMotion, turn: str, travel: str) -> str:
    """Say what a body does, seen from the core, with the verbs in the form that the sentence
    needs.
    """
    angle = body.relative_rotation.range_degrees
    shift = body.relative_shift.range_angstrom
    if angle >= NOTICEABLE_DEGREES and shift >= NOTICEABLE_ANGSTROM:
        return f"{turn} by {angle:.0f}° and {travel} {shift:.1f} Å"
    if angle >= NOTICEABLE_DEGREES:
        return f"{turn} by {angle:.0f}° in place"
    return f"{travel} {shift:.1f} Å without turning"


def _detail(body: GroupMotion) -> str:
    movement = _movement(body, "turns", "travels")
    return (
        f"{body_name(body).capitalize()} ({short_ranges(body.ranges)}; {body.size} "
        f"residues) {movement}."
    )


def _certainty(analysis: Analysis) -> str:
    ensemble = analysis.ensemble
    spread = float(ensemble.motions.scores_angstrom[:, 0].std())
    error = ensemble.main_error_angstrom
    extent = (
        "Along the main motion, 90% of the particles spread over "
        f"{ensemble.main_range_angstrom:.1f} Å"
    )
    if error <= 0:
        return f"{extent}; the run gives no error for single particles."
    verdict = (
        "so single particles can be told apart"
        if spread >= RESOLVED_RATIO * error
        else "so single particles can hardly be told apart: trust averages over many"
    )
    return f"{extent}, and one particle’s place on it is known to ± {error:.1f} Å, {verdict}."
