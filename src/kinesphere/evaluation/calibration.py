"""Whether errors are what they claim: how often the truth lies in their intervals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from kinesphere.analysis.ensemble import sample_images
from kinesphere.analysis.errors import displacement_errors
from kinesphere.evaluation.metrics import MainMotion, coverage
from kinesphere.evaluation.predictions import main_motion_errors
from kinesphere.evaluation.truth import Truth
from kinesphere.runs.run import Run

MOVING_ANGSTROM = 1.0
_IMAGES = 800
_PROBABILITIES = (0.68, 0.9, 0.95)


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
    found = motion.project(run.residues(images)[:, rows])
    posterior = main_motion_errors(run, rows, motion, images)
    error = np.hypot(posterior, run.unmodelled.collective_fraction * found.std())
    return {
        **{
            name: coverage(found, error, true, p)
            for name, p in zip(names, _PROBABILITIES, strict=True)
        },
        "posterior_coverage_90": coverage(found, posterior, true, 0.9),
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
