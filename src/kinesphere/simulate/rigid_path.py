"""Paths between two structures along which domains move as rigid bodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.io.structure import AtomicModel
from kinesphere.simulate.geometry import restore_geometry

_SMALLEST_TURN_RADIANS = 1e-7  # below, the axis lies nowhere in particular
_HALF_WIDTH_OF_HINGE_RESIDUES = 2


@dataclass(frozen=True)
class Screw:
    """A rigid motion that can be done in part: a rotation about an axis in space, and a translation
    along it.

    Attributes
    ----------
    rotation_vector
        (3,) radians.
    centre
        (3,) Å, a point of the axis.
    translation
        (3,) Å, parallel to the axis (any direction where nothing rotates).
    """

    rotation_vector: NDArray[np.float64]
    centre: NDArray[np.float64]
    translation: NDArray[np.float64]

    @classmethod
    def superposing(cls, moving: NDArray[np.float64], fixed: NDArray[np.float64]) -> Screw:
        """Fit the motion that takes points (n, 3) onto others in the least-squares sense (Kabsch
        1976).
        """
        rotation, _ = Rotation.align_vectors(
            fixed - fixed.mean(axis=0), moving - moving.mean(axis=0)
        )
        if rotation.magnitude() < _SMALLEST_TURN_RADIANS:
            rotation = Rotation.identity()
        matrix = rotation.as_matrix()
        offset = fixed.mean(axis=0) - matrix @ moving.mean(axis=0)
        # x → R x + t has the fixed axis (I − R) c = t, but for the part of t along the axis, which
        # the inverse leaves.
        turn = np.eye(3) - matrix
        centre = np.linalg.pinv(turn, rcond=1e-6) @ offset
        return cls(rotation.as_rotvec(), centre, offset - turn @ centre)

    def rotation(self, fraction: float) -> NDArray[np.float64]:
        """(3, 3) rotation after a fraction of the motion."""
        matrix: NDArray[np.float64] = Rotation.from_rotvec(
            fraction * self.rotation_vector
        ).as_matrix()
        return matrix

    def apply(self, points: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
        """Move points (n, 3) by a fraction of the motion."""
        return (
            (points - self.centre) @ self.rotation(fraction).T
            + self.centre
            + fraction * self.translation
        )


def domain_path(
    model: AtomicModel,
    end: NDArray[np.float64],
    domains: list[NDArray[np.bool_]],
    fractions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Move a model towards another conformation, each domain along the screw axis that relates its
    two positions.

    A straight line between two positions shortens a rotating domain. Here an atom follows its
    domain's screw, plus the part of the way that is not rigid, which it goes linearly in the
    domain's frame. Around domain borders the two domains' paths are blended over five residues, so
    that the chain bends instead of breaking. Bond lengths and angles, squeezed where a rotamer
    flips, are restored at the end.

    Parameters
    ----------
    model
        Start of the path.
    end
        (n_atoms, 3) Å, the same atoms at its end.
    domains
        Residue masks (n_residues,), one a domain, that together hold every residue once.
    fractions
        (n_states,) in [0, 1], the way gone in each state.

    Returns
    -------
    ndarray
        (n_states, n_atoms, 3) Å, in the frame of `model` with the first domain at rest.
    """
    start = model.positions_angstrom
    fit = [model.centre_atom[domain] for domain in domains]
    end = Screw.superposing(end[fit[0]], start[fit[0]]).apply(end, 1.0)
    screws = [Screw.superposing(start[atoms], end[atoms]) for atoms in fit]
    weights = _border_weights(model, domains)[:, model.residue_index]
    # Both ends are computed along, whatever fractions are asked for: geometry is restored relative
    # to them.
    steps = np.concatenate([[0.0], fractions, [1.0]])
    states = np.zeros((len(steps), *start.shape))
    for screw, weight in zip(screws, weights, strict=True):
        residual = (end - screw.apply(start, 1.0)) @ screw.rotation(1.0)
        for number, fraction in enumerate(steps):
            moved = screw.apply(start, fraction) + fraction * residual @ screw.rotation(fraction).T
            states[number] += weight[:, None] * moved
    return restore_geometry(states, steps)[1:-1]


def _border_weights(model: AtomicModel, domains: list[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """(n_domains, n_residues) memberships that add up to one: a running mean of the masks within
    each chain.
    """
    reach = _HALF_WIDTH_OF_HINGE_RESIDUES
    smooth = np.zeros((len(domains), model.n_residues))
    for row in range(model.n_residues):
        window = slice(max(0, row - reach), row + reach + 1)
        same_chain = model.chain[window] == model.chain[row]
        smooth[:, row] = [domain[window][same_chain].mean() for domain in domains]
    return smooth
