"""Scores of structures against true structures, as functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

from kinesphere.analysis.ensemble import structure_components

_LEAST_MOTION_ANGSTROM = 1e-3


def rmsd(
    structures: Float[np.ndarray, "m residues 3"], truth: Float[np.ndarray, "*m residues 3"]
) -> Float[np.ndarray, " m"]:
    """Root mean square distance of residues, in one frame: no superposition.

    Parameters
    ----------
    structures
        (m, n_residues, 3) Å.
    truth
        (m, n_residues, 3) Å, or one structure for all.

    Returns
    -------
    ndarray
        (m,) Å.
    """
    return np.sqrt(((structures - truth) ** 2).sum(axis=-1).mean(axis=-1))


def superposed_rmsd(
    structures: Float[np.ndarray, "m residues 3"], truth: Float[np.ndarray, "m residues 3"]
) -> Float[np.ndarray, " m"]:
    """Root mean square distance of residues after the best superposition of each pair.

    n · RMSD² = Σ|a|² + Σ|b|² − 2 (σ₁ + σ₂ ± σ₃), σ the singular values of the covariance of the
    centred positions and the sign that of its determinant (Kabsch 1976,
    doi:10.1107/S0567739476001873).

    Parameters
    ----------
    structures, truth
        (m, n_residues, 3) Å.

    Returns
    -------
    ndarray
        (m,) Å.
    """
    first, second = (x - x.mean(axis=1, keepdims=True) for x in (structures, truth))
    covariance = np.einsum("mri,mrj->mij", first, second)
    singular = np.linalg.svd(covariance, compute_uv=False)
    singular[:, 2] *= np.sign(np.linalg.det(covariance))
    squared = (
        (first**2).sum(axis=(1, 2)) + (second**2).sum(axis=(1, 2)) - 2.0 * singular.sum(axis=1)
    )
    return np.sqrt(np.clip(squared, 0.0, None) / structures.shape[1])


def pearson(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " m"]) -> float:
    """Pearson correlation; NaN where one of the two does not vary."""
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    # a constant leaves rounding errors of its mean
    floor = (
        1e-12
        * max(float(np.abs(first).max() * np.abs(second).max()), np.finfo(float).tiny)
        * len(first)
    )
    return float(a @ b) / scale if scale > floor else float("nan")


def spearman(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " m"]) -> float:
    """Rank correlation, ties at their mean rank; NaN where one of the two does not vary."""
    return pearson(rankdata(first), rankdata(second))


def rms(values: Float[np.ndarray, " m"]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def amplitude(predicted: Float[np.ndarray, " m"], true: Float[np.ndarray, " m"]) -> float:
    """Divide the standard deviation of what was found by that of the truth; NaN where the truth
    does not vary.
    """
    spread = float(true.std())
    return float(predicted.std()) / spread if spread > _LEAST_MOTION_ANGSTROM else float("nan")


@dataclass(frozen=True)
class MainMotion:
    """The first principal direction of the true states; a position along it is in Å RMS of the
    molecule.

    Where nothing moves the direction is zero, and so is every position.
    """

    mean: Float[np.ndarray, "residues 3"]
    mode: Float[np.ndarray, "residues 3"]

    @classmethod
    def of_states(cls, states: Float[np.ndarray, "states residues 3"]) -> MainMotion:
        """Find it.

        Parameters
        ----------
        states
            (n_states, n_residues, 3) Å; every state counts once, however many images show it.
        """
        mean = states.mean(axis=0)
        if rmsd(states, mean).max() < _LEAST_MOTION_ANGSTROM:
            return cls(mean, np.zeros_like(mean))
        components = structure_components(states, 1, seed=0)
        return cls(components.mean, components.modes[0])

    def project(self, structures: Float[np.ndarray, "m residues 3"]) -> Float[np.ndarray, " m"]:
        """Positions of structures along the motion, (m,) Å RMS."""
        return np.einsum("mri,ri->m", structures - self.mean, self.mode) / len(self.mode)


def nearest_state(
    structures: Float[np.ndarray, "m residues 3"], states: Float[np.ndarray, "states residues 3"]
) -> Int[np.ndarray, " m"]:
    """Find the state of least RMSD to each structure, (m,)."""
    distance = cdist(
        structures.reshape(len(structures), -1), states.reshape(len(states), -1), "sqeuclidean"
    )
    nearest: Int[np.ndarray, " m"] = distance.argmin(axis=1)
    return nearest


def coverage(
    predicted: Float[np.ndarray, " m"],
    error: Float[np.ndarray, " m"],
    truth: Float[np.ndarray, " m"],
    probability: float,
) -> float:
    """Fraction of truths inside the central interval of that probability of each image's Gaussian
    error.

    Parameters
    ----------
    predicted, error
        (m,) what is said, and its standard deviation.
    truth
        (m,).
    probability
        What calibrated errors cover.
    """
    reach = norm.ppf(0.5 + 0.5 * probability) * error
    return float(np.mean(np.abs(truth - predicted) <= reach))
