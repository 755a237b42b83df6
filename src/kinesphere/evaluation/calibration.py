"""Whether errors and populations are what they claim: how often the truth lies in the intervals,
and how many molecules are in each of two modes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from kinesphere.analysis.ensemble import chunks, sample_images
from kinesphere.analysis.errors import displacement_errors
from kinesphere.analysis.populations import deconvolve
from kinesphere.evaluation.metrics import MainMotion, coverage
from kinesphere.evaluation.predictions import main_motion_errors
from kinesphere.evaluation.truth import Truth
from kinesphere.runs.halves import images_by_model
from kinesphere.runs.run import Run

MOVING_ANGSTROM = 1.0
_IMAGES = 800
_PROBABILITIES = (0.68, 0.9, 0.95)
_BINS = 100
_SMOOTHING_BINS = 5.0  # enough to join eleven states, too few to join two modes
_DEEPEST_VALLEY = 0.5  # of the lower of two peaks


def calibration_scores(
    run: Run, truth: Truth, rows: Int[np.ndarray, " residues"], motion: MainMotion
) -> dict[str, float]:
    """Count how often 68, 90 and 95 % intervals hold the truth.

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

    Returns
    -------
    dict
        `coverage_…` of intervals along the main motion, `posterior_coverage_90` of the latent
        posterior alone, and `residue_coverage_90` of the displacements of single residues,
        `…_moving` of those that move; NaN where nothing moves.
    """
    images = sample_images(len(truth.state), 1, seed=0, limit=_IMAGES)
    names = [f"coverage_{round(100 * p)}" for p in _PROBABILITIES]
    if not motion.mode.any():
        undefined = (
            *names,
            "posterior_coverage_90",
            "residue_coverage_90",
            "residue_coverage_90_moving",
        )
        return dict.fromkeys(undefined, float("nan"))
    true = motion.project(truth.ca_states)[truth.state[images]]
    predicted = motion.project(run.residues(images)[:, rows])
    posterior = main_motion_errors(run, rows, motion, images)
    error = np.hypot(posterior, run.unmodelled.collective_fraction * predicted.std())
    return {
        **{
            name: coverage(predicted, error, true, p)
            for name, p in zip(names, _PROBABILITIES, strict=True)
        },
        "posterior_coverage_90": coverage(predicted, posterior, true, 0.9),
        **_residue_scores(run, truth, rows, images),
    }


def _residue_scores(
    run: Run, truth: Truth, rows: Int[np.ndarray, " residues"], images: Int[np.ndarray, " m"]
) -> dict[str, float]:
    """Score each residue's displacement from the mean over all images, along its own main
    direction.
    """
    errors = displacement_errors(run, images).of(rows)
    mean = np.tensordot(truth.populations, truth.ca_states, axes=1)
    of_state = np.einsum("srx,rx->sr", truth.ca_states - mean, errors.direction)
    covered = errors.covered(of_state[truth.state[images]], 0.9)
    moving = errors.amplitude > MOVING_ANGSTROM
    return {
        "residue_coverage_90": float(covered.mean()),
        "residue_coverage_90_moving": float(covered[moving].mean())
        if moving.any()
        else float("nan"),
    }


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
    highest_before = np.maximum.accumulate(smooth)
    highest_after = np.maximum.accumulate(smooth[::-1])[::-1]
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
    predicted: Float[np.ndarray, " n"],
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
    predicted
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
    fraction = population.fraction(place < middle, float(np.mean(predicted < middle)))
    return {
        "population_true": float(np.mean(true < middle)),
        "population_counted": fraction.counted,
        "population": fraction.value,
        "population_interval": [fraction.low, fraction.high],
    }
