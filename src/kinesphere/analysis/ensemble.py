"""Ensembles of decoded structures: samples, principal motions in Å, fluctuations and clashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from sklearn.utils.extmath import randomized_svd

from kinesphere.analysis.latent import standard_steps
from kinesphere.io.structure import AtomicModel

CLASH_DISTANCE_ANGSTROM = 4.0
CHUNK_BYTES = 64 * 1024**2

Decode = Callable[[Float[np.ndarray, "m d"]], Float[np.ndarray, "m points 3"]]


@dataclass(frozen=True)
class StructureComponents:
    """Principal motions of an ensemble, scaled so that a score is the RMS displacement of the
    molecule in Å.
    """

    mean: Float[np.ndarray, "residues 3"]
    modes: Float[np.ndarray, "k residues 3"]
    scores_angstrom: Float[np.ndarray, "m k"]
    variance_fraction: Float[np.ndarray, " k"]

    def pointing_along(self, displacement: Float[np.ndarray, "residues 3"]) -> StructureComponents:
        """Choose the sign of the first motion so that a displacement has a positive score on it."""
        if float(np.sum(self.modes[0] * displacement)) >= 0:
            return self
        sign = np.where(np.arange(len(self.modes)) == 0, -1.0, 1.0)
        modes = self.modes * sign[:, None, None]
        scores = self.scores_angstrom * sign
        return StructureComponents(self.mean, modes, scores, self.variance_fraction)

    def project(self, positions: Float[np.ndarray, "m residues 3"]) -> Float[np.ndarray, "m k"]:
        """Give the scores (m, k) in Å RMS of other structures of the same residues."""
        return np.einsum("mrx,krx->mk", positions - self.mean, self.modes) / self.modes.shape[1]


def sample_images(
    n_images: int, n_points: int, seed: int, limit: int = 5000, max_bytes: float = 2e8
) -> Int[np.ndarray, " m"]:
    """Choose particles for statistics that need all their structures in memory at once.

    Parameters
    ----------
    n_images
        Particles there are.
    n_points
        Points in each structure.
    seed
        Of the choice.
    limit, max_bytes
        At most so many structures and so much memory (as float32).

    Returns
    -------
    ndarray
        (m,) sorted rows, all of them where they fit.
    """
    m = min(n_images, limit, max(int(max_bytes // (12 * n_points)), 2))
    if m == n_images:
        return np.arange(n_images)
    return np.sort(np.random.default_rng(seed).choice(n_images, m, replace=False))


def chunks(rows: Int[np.ndarray, " m"], n_points: int) -> Iterator[Int[np.ndarray, " c"]]:
    """Cut `rows` into pieces whose structures of `n_points` points take about 64 MB in double
    precision.
    """
    size = max(1, CHUNK_BYTES // (24 * max(n_points, 1)))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def decode_in_chunks(
    decode: Decode,
    latents: Float[np.ndarray, "m d"],
    n_points: int,
    keep: Int[np.ndarray, " p"] | None = None,
) -> Float[np.ndarray, "m p 3"]:
    """Decode many latents without holding more than a chunk in double precision.

    Parameters
    ----------
    decode
        Latents (m, d) to positions (m, n_points, 3) in Å.
    latents
        (m, d).
    n_points
        Points that `decode` returns for each latent.
    keep
        Points to keep; all by default.

    Returns
    -------
    ndarray
        (m, p, 3) float32 in Å.
    """
    kept = np.arange(n_points) if keep is None else keep
    positions = np.empty((len(latents), len(kept), 3), np.float32)
    for rows in chunks(np.arange(len(latents)), n_points):
        positions[rows] = np.asarray(decode(latents[rows]))[:, kept]
    return positions


def structure_components(
    positions: Float[np.ndarray, "m residues 3"], n_components: int, seed: int
) -> StructureComponents:
    """Find the principal motions of an ensemble of structures.

    Parameters
    ----------
    positions
        (m, residues, 3) residue centres in Å, in one frame.
    n_components
        How many at most.
    seed
        Of the randomised solver.

    Returns
    -------
    StructureComponents
        Modes scaled to Σ|mode|² = number of residues, so that a score of 1 moves the molecule by 1
        Å RMS.
    """
    m, n_residues, _ = positions.shape
    flat = positions.reshape(m, -1).astype(np.float64)
    k = min(n_components, m - 1, flat.shape[1])
    mean = flat.mean(axis=0)
    left, singular, axes = randomized_svd(flat - mean, k, random_state=seed)
    fraction = singular**2 / max(float(np.sum((flat - mean) ** 2)), np.finfo(float).tiny)
    return StructureComponents(
        mean=mean.reshape(n_residues, 3),
        modes=(axes * np.sqrt(n_residues)).reshape(k, n_residues, 3),
        scores_angstrom=left * singular / np.sqrt(n_residues),
        variance_fraction=fraction,
    )


def errors_along(
    place: Callable[[Float[np.ndarray, "m d"]], Float[np.ndarray, " m"]],
    mean: Float[np.ndarray, "m d"],
    covariance: Float[np.ndarray, "m d d"],
) -> Float[np.ndarray, " m"]:
    """Carry the latent errors of particles over to their position along a motion.

    Parameters
    ----------
    place
        Latents to positions along the motion, in Å RMS.
    mean
        (m, d) latents.
    covariance
        (m, d, d) their covariances.

    Returns
    -------
    ndarray
        (m,) standard deviations in Å RMS: central differences of one standard deviation along each
        axis of the posterior, added in quadrature. Where a posterior is a long, curved ridge of
        latents that mean nearly the same structure, its Gaussian reaches beyond the ridge; both
        ends of an axis do so alike, and the difference does not.
    """
    variance = np.zeros(len(mean))
    for step in standard_steps(covariance).transpose(2, 0, 1):
        ends = [place(mean + s * step) for s in (1, -1)]
        variance += ((ends[0] - ends[1]) / 2) ** 2
    return np.sqrt(variance)


def residue_fluctuation(
    positions: Float[np.ndarray, "m residues 3"],
) -> Float[np.ndarray, " residues"]:
    """Give each residue's RMS displacement from its mean position, (residues,) in Å, in the frame
    of the poses.
    """
    deviation = positions - positions.mean(axis=0, dtype=np.float64)
    return np.sqrt(np.einsum("mrx,mrx->r", deviation, deviation) / len(positions))


def count_clashes(
    positions: Float[np.ndarray, "m residues 3"],
    model: AtomicModel,
    distance_angstrom: float = CLASH_DISTANCE_ANGSTROM,
) -> Int[np.ndarray, " m"]:
    """Count the pairs of non-contiguous residues that come too close.

    Parameters
    ----------
    positions
        (m, residues, 3) residue centres in Å.
    model
        The model they belong to. Ligands and sugars are left out: their centres have no such
        minimum distance.
    distance_angstrom
        Pairs nearer than this count: 4 Å as in cryoSPHERE (its figure 7).

    Returns
    -------
    ndarray
        (m,) clashing pairs in each structure.
    """
    polymer = model.residue_kind != "other"
    rows = np.flatnonzero(polymer)
    return np.array(
        [_clashes(structure[rows], rows, model, distance_angstrom) for structure in positions], int
    )


def _clashes(
    points: Float[np.ndarray, "r 3"],
    rows: Int[np.ndarray, " r"],
    model: AtomicModel,
    distance_angstrom: float,
) -> int:
    """Count close pairs that are not neighbours in one chain."""
    pairs = cKDTree(points).query_pairs(distance_angstrom, output_type="ndarray")
    return int(np.count_nonzero(~_contiguous(rows[pairs[:, 0]], rows[pairs[:, 1]], model)))


def _contiguous(
    first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"], model: AtomicModel
) -> Bool[np.ndarray, " p"]:
    """Tell which pairs of residue rows follow each other in one chain."""
    contiguous: Bool[np.ndarray, " p"] = (np.abs(first - second) <= 1) & (
        model.chain[first] == model.chain[second]
    )
    return contiguous
