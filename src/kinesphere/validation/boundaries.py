"""How near the segments' boundaries are to a hinge that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel
from kinesphere.simulate.hinges import select_residues

_OPTION = "--hinge"


@dataclass(frozen=True)
class BoundaryDistances:
    """Distances along the chain, in residues; infinite where the chain has no boundary.

    `nearest` is to the nearest boundary of any two segments: with many segments it is small by chance. `main` is to the
    boundary across which the molecule turns most, from image to image: where the run itself sees the chain's hinge.
    """

    nearest: float
    main: float


def boundary_distances(
    model: AtomicModel,
    hinge: str,
    segment: Int[np.ndarray, " residues"],
    rotations: Float[np.ndarray, "m segments 3"],
) -> BoundaryDistances:
    """Measure from a known hinge to the boundaries of segments in its chain.

    Parameters
    ----------
    model
        The nominal model.
    hinge
        A residue, as in `B:226`.
    segment
        (n_residues,) segment of each residue.
    rotations
        (m, n_segments, 3) rotation vectors of the segments in m images, radians.

    Returns
    -------
    BoundaryDistances

    Raises
    ------
    InputError
        If the hinge is not one residue of the model's polymers.
    """
    at = _hinge_row(model, hinge)
    chain = np.flatnonzero((model.chain == model.chain[at]) & (model.residue_kind != "other"))
    place = int(np.searchsorted(chain, at))
    before = np.flatnonzero(segment[chain[1:]] != segment[chain[:-1]])  # last residue before each boundary
    if not len(before):
        return BoundaryDistances(float("inf"), float("inf"))
    away = np.minimum(np.abs(before - place), np.abs(before + 1 - place))
    turns = [_relative_turn(rotations, segment[chain[i]], segment[chain[i + 1]]) for i in before]
    return BoundaryDistances(float(away.min()), float(away[int(np.argmax(turns))]))


def _hinge_row(model: AtomicModel, hinge: str) -> int:
    try:
        rows = np.flatnonzero(select_residues(hinge, model) & (model.residue_kind != "other"))
    except InputError as error:
        raise InputError(_OPTION, error.problem, "Name one residue, as in B:226") from None
    if len(rows) != 1:
        raise InputError(_OPTION, f"'{hinge}' names {len(rows)} residues", "Name one residue, as in B:226")
    return int(rows[0])


def _relative_turn(rotations: Float[np.ndarray, "m segments 3"], first: int, second: int) -> float:
    """Root mean square angle, radians, by which two segments turn against each other about their mean orientation."""
    relative = Rotation.from_rotvec(rotations[:, first]).inv() * Rotation.from_rotvec(rotations[:, second])
    deviation = (relative.mean().inv() * relative).magnitude()
    return float(np.sqrt(np.mean(deviation**2)))
