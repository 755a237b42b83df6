"""Scores against a truth as a table for the terminal: the run, the model left unmoved, the limit of
the noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table

_DASH = "–"


def score_table(scores: Mapping[str, Any]) -> Table:
    """Arrange the scores of `kinesphere evaluate` for reading.

    Parameters
    ----------
    scores
        As printed in JSON; numbers may be null.

    Returns
    -------
    rich.table.Table
        One row a score. The JSON holds more.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "run", "unmoved", "ideal", "of ideal"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)

    def row(name: str, key: str, fraction: str | None = None, digits: int = 3) -> None:
        if key not in scores:
            return
        values = (scores[key], scores.get(f"still_{key}"), scores.get(f"ideal_{key}"))
        part = None if fraction is None else scores.get(fraction)
        table.add_row(name, *(_text(value, digits) for value in values), _percent(part))

    scores = {**scores, "still_ca_rmsd_median": scores.get("still_rmsd_median")}
    row("CA RMSD, median (Å)", "ca_rmsd_median", "fraction_of_ideal_ca_rmsd", 2)
    row("main motion, Pearson", "r_main_motion", "fraction_of_ideal")
    row("main motion, Spearman", "spearman_main_motion", "fraction_of_ideal_spearman")
    row("main motion, amplitude", "amplitude_main_motion")
    row("best latent direction, Pearson", "latent_r_coordinate")
    for name, r, limit, fraction in _coordinate_rows(scores):
        table.add_row(name, _text(r, 3), _DASH, _text(limit, 3), _percent(fraction))
    for number, entry in enumerate(scores.get("distances") or [], 1):
        values = (entry["r"], None, entry.get("ideal_r"))
        part = _percent(entry.get("fraction_of_ideal"))
        table.add_row(f"distance {number}, Pearson", *(_text(value, 3) for value in values), part)
    row("area of |FSC|, images (1/px)", "fsc_area", "fraction_of_ideal_fsc_area")
    row("area of |FSC|, states (1/px)", "conformation_fsc_area")
    row(
        "neighbourhood similarity",
        "neighbourhood_similarity",
        "fraction_of_ideal_neighbourhood_similarity",
    )
    row("information imbalance", "information_imbalance", None, 2)
    row("leakage of pose", "leakage_pose", None, 2)
    row("leakage of CTF", "leakage_ctf", None, 2)
    row("coverage of 90 % intervals", "coverage_90")
    row("clashes beyond the model's", "clashes", None, 0)
    return table


def _coordinate_rows(
    scores: Mapping[str, Any],
) -> list[tuple[str, float | None, float | None, float | None]]:
    """How well a smooth function of the latents follows each true coordinate, the limit, and the
    fraction of it; coordinates that do not vary have none of these.
    """
    found = scores.get("latent_smooth_r_coordinate") or []
    undefined = [None] * len(found)
    limits = scores.get("ideal_r_coordinate", undefined)
    fractions = scores.get("fraction_of_ideal_latent_smooth_r_coordinate", undefined)
    return [
        (f"coordinate {number} from all latents, Pearson", r, limit, fraction)
        for number, (r, limit, fraction) in enumerate(zip(found, limits, fractions, strict=True), 1)
        if _is_defined(r) or _is_defined(limit)
    ]


def _is_defined(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _text(value: Any, digits: int) -> str:
    if isinstance(value, list):
        return ", ".join(_text(item, digits) for item in value)
    return _DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: Any) -> str:
    return _DASH if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"
