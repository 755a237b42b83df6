"""Rigid motion of groups of points: superposition and statistics of rotations and shifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

MINIMUM_POINTS = 3


@dataclass(frozen=True)
class RigidFit:
    """Best rigid motions of a reference onto m structures: `y ≈ rotation · (reference − origin) +
    centroid`.
    """

    rotation: Float[np.ndarray, "m 3 3"]
    origin: Float[np.ndarray, " 3"]
    centroid: Float[np.ndarray, "m 3"]

    def apply(self, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "m p 3"]:
        """Carry points of the reference frame along."""
        moved: Float[np.ndarray, "m p 3"] = (points - self.origin) @ self.rotation.transpose(
            0, 2, 1
        )
        return moved + self.centroid[:, None]

    def undo(self, points: Float[np.ndarray, "m p 3"]) -> Float[np.ndarray, "m p 3"]:
        """Carry points of each structure back into the reference frame."""
        return (points - self.centroid[:, None]) @ self.rotation + self.origin


@dataclass(frozen=True)
class RotationStatistics:
    """Rotations of an ensemble about its own mean orientation, in degrees.

    `percentiles` are the 5th, 50th and 95th of the signed angle about `axis`, the principal axis of
    the rotations.
    """

    axis: tuple[float, float, float]
    mean_angle_degrees: float
    std_degrees: float
    percentiles_degrees: tuple[float, float, float]

    @property
    def range_degrees(self) -> float:
        """From the 5th to the 95th percentile."""
        return self.percentiles_degrees[2] - self.percentiles_degrees[0]


@dataclass(frozen=True)
class ShiftStatistics:
    """Displacements of a centroid from its mean, in Å; `range_angstrom` is 5th to 95th percentile
    along `direction`.
    """

    direction: tuple[float, float, float]
    rms_angstrom: float
    range_angstrom: float


def superpose(
    reference: Float[np.ndarray, "p 3"], structures: Float[np.ndarray, "m p 3"]
) -> RigidFit:
    """Find the rigid motions that carry a reference onto each of many structures with least
    squares.

    Parameters
    ----------
    reference
        (p, 3) in Å.
    structures
        (m, p, 3) the same points in each structure.

    Returns
    -------
    RigidFit
        Proper rotations by the singular value decomposition (Kabsch, 1976,
        doi:10.1107/S0567739476001873). Fewer than three points don't define a rotation: it is then
        the identity.
    """
    origin = reference.mean(axis=0, dtype=np.float64)
    centroid = structures.mean(axis=1, dtype=np.float64)
    if len(reference) < MINIMUM_POINTS:
        return RigidFit(np.tile(np.eye(3), (len(structures), 1, 1)), origin, centroid)
    covariance = np.einsum("px,mpy->mxy", reference - origin, structures - centroid[:, None])
    u, _, vt = np.linalg.svd(covariance)
    v = vt.transpose(0, 2, 1)
    v[:, :, 2] *= np.sign(np.linalg.det(v @ u.transpose(0, 2, 1)))[:, None]
    return RigidFit(v @ u.transpose(0, 2, 1), origin, centroid)


def rotation_statistics(rotation: Float[np.ndarray, "m 3 3"]) -> RotationStatistics:
    """Describe the rotations of an ensemble about their mean.

    Parameters
    ----------
    rotation
        (m, 3, 3).

    Returns
    -------
    RotationStatistics
        The axis is the first principal axis of the rotation vectors, in the frame of the reference,
        its sign chosen so that the largest entry is positive.
    """
    rotations = Rotation.from_matrix(rotation)
    vectors = (rotations.mean().inv() * rotations).as_rotvec()
    axis = principal_direction(vectors)
    signed = np.degrees(vectors @ axis)
    low, middle, high = np.percentile(signed, [5, 50, 95])
    angles = np.degrees(np.linalg.norm(vectors, axis=1))
    return RotationStatistics(
        _triple(axis),
        float(angles.mean()),
        float(signed.std()),
        (float(low), float(middle), float(high)),
    )


def shift_statistics(positions: Float[np.ndarray, "m 3"]) -> ShiftStatistics:
    """Describe how far a point of an ensemble, (m, 3) in Å, strays from its mean."""
    deviation = positions - positions.mean(axis=0)
    direction = principal_direction(deviation)
    low, high = np.percentile(deviation @ direction, [5, 95])
    rms = np.sqrt(np.mean(np.sum(deviation**2, axis=1)))
    return ShiftStatistics(_triple(direction), float(rms), float(high - low))


def principal_direction(vectors: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, " 3"]:
    """Give the unit vector along which vectors (m, 3) are largest; its largest entry is
    positive.
    """
    direction: Float[np.ndarray, " 3"] = np.linalg.eigh(vectors.T @ vectors)[1][:, -1]
    return direction * np.sign(direction[np.abs(direction).argmax()])


def _triple(vector: Float[np.ndarray, " 3"]) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
