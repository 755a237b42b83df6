"""How many molecules are in each of two modes: what a run says, against the truth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from kinesphere.analysis.ensemble import chunks
from kinesphere.analysis.populations import deconvolve
from kinesphere.evaluation.metrics import MainMotion
from kinesphere.evaluation.truth import Truth
from kinesphere.runs.halves import images_by_model
from kinesphere.runs.run import Run

_BINS, _SMOOTHING_BINS = 100, 5.0  # enough to join eleven states, too few to join two modes
_DEEPEST_VALLEY = 0.5  # of the lower of two peaks


def valley(values: Float[np.ndarray, " n"]) -> float:
    """Find the deepest place between the two modes of a distribution.

    Parameters
    ----------
    values
        (n,).

    Returns
    -------
    float
        NaN where there are no two peaks with less than half of the lower one between them. The
        histogram of 100 bins is smoothed by five of them first.
    """
    if np.ptp(values) == 0:
        return float("nan")
    counts, edges = np.histogram(values, _BINS)
    smooth = gaussian_filter1d(counts.astype(np.float64), _SMOOTHING_BINS, mode="constant")
    highest_before, highest_after = (
        np.maximum.accumulate(smooth),
        np.maximum.accumulate(smooth[::-1])[::-1],
    )
    depth = smooth / np.minimum(highest_before, highest_after)
    lowest = np.flatnonzero(depth == depth.min())
    middle = lowest[len(lowest) // 2]
    return (
        float(0.5 * (edges[middle] + edges[middle + 1]))
        if depth.min() < _DEEPEST_VALLEY
        else float("nan")
    )


def mode_scores(
    run: Run,
    truth: Truth,
    rows: Int[np.ndarray, " residues"],
    motion: MainMotion,
    found: Float[np.ndarray, " n"],
) -> dict[str, float | list[float]]:
    """Compare the part of the molecules below the valley of the true main motion.

    Parameters
    ----------
    run
        A finished run.
    truth
        On the residues it shares with the run's model.
    rows
        (n_residues,) rows of those residues in the model.
    motion
        The true main motion.
    found
        (n,) where the run puts each image along it.

    Returns
    -------
    dict
        `population_true`, `population_counted`, `population` and `population_interval` (90 %):
        parts below the valley; NaN where the truth has no two modes.
    """
    true = motion.project(truth.ca_states)[truth.state]
    middle = valley(true)
    if not np.isfinite(middle):
        names = ("population_true", "population_counted", "population")
        return {**dict.fromkeys(names, float("nan")), "population_interval": [float("nan")] * 2}
    population = deconvolve(run.latents)
    place = np.empty(len(population.nodes))
    for model, nodes in images_by_model(population.half).items():
        for part in chunks(nodes, run.model.n_residues):
            place[part] = motion.project(run.decode(population.nodes[part], model)[:, rows])
    share = population.share(place < middle, float(np.mean(found < middle)))
    return {
        "population_true": float(np.mean(true < middle)),
        "population_counted": share.counted,
        "population": share.value,
        "population_interval": [share.low, share.high],
    }
