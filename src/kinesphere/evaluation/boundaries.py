"""How near the segments' boundaries are to a hinge that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.rigid import superpose
from kinesphere.errors import InputError
from kinesphere.io.selection import select_residues
from kinesphere.io.structure import AtomicModel

_OPTION = "--hinge"
_FORM = "Name one residue, as in B:226"


@dataclass(frozen=True)
class BoundaryDistances:
    """Distances along the chain, in residues; infinite where the chain has no boundary.

    `nearest` is to the nearest boundary of any two segments: with many segments it is small by
    chance. `main` is to the boundary that best cuts the moving chain into two rigid bodies: where
    the run itself sees the chain's hinge.
    """

    nearest: float
    main: float


def boundary_distances(
    model: AtomicModel,
    hinge: str,
    segment: Int[np.ndarray, " residues"],
    structures: Float[np.ndarray, "m residues 3"],
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
    structures
        (m, n_residues, 3) residue centres in m images, Å.

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
    before = np.flatnonzero(
        segment[chain[1:]] != segment[chain[:-1]]
    )  # last residue before each boundary
    if not len(before):
        return BoundaryDistances(float("inf"), float("inf"))
    away = np.minimum(np.abs(before - place), np.abs(before + 1 - place))
    nominal, moved = model.centres_angstrom[chain], structures[:, chain]
    left_over = [
        _bending(nominal[:end], moved[:, :end]) + _bending(nominal[end:], moved[:, end:])
        for end in (before + 1).tolist()
    ]
    return BoundaryDistances(float(away.min()), float(away[int(np.argmin(left_over))]))


def _hinge_row(model: AtomicModel, hinge: str) -> int:
    named = select_residues(hinge, model, _OPTION, _FORM)
    rows = np.flatnonzero(named & model.is_polymer)
    if len(rows) != 1:
        raise InputError(_OPTION, f"'{hinge}' names {len(rows)} residues", _FORM)
    return int(rows[0])


def _bending(nominal: Float[np.ndarray, "r 3"], moved: Float[np.ndarray, "m r 3"]) -> float:
    """Sum of squares, Å², of what no rigid motion of these residues explains."""
    return float(((superpose(nominal, moved).apply(nominal) - moved) ** 2).sum())
