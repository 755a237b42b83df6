"""Whether predicted structures are still chains, and bend where a hinge is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from kinesphere.analysis.rigid import superpose
from kinesphere.errors import InputError
from kinesphere.io.selection import select_residues
from kinesphere.io.structure import AtomicModel

_TRANS_ANGSTROM = 3.8
_CIS_ANGSTROM = 2.95
_TOLERANCE_ANGSTROM = 0.4
_LONGEST_BOND_ANGSTROM = 5.0  # of the input model: beyond, residues are missing between the two
_ANGLES_DEGREES = (75.0, 155.0)
_OPTION = "--hinge"
_FORM = "Name one residue, as in B:226"


def geometry_scores(model: AtomicModel, structures: Float[np.ndarray, "m r 3"]) -> dict[str, float]:
    """Count distances between neighbouring CA atoms, and pseudo-angles over three of them, that no
    protein has.

    CA–CA distances are 3.8 Å across a trans and 2.95 Å across a cis peptide bond; 0.4 Å either way
    is allowed. CA–CA–CA angles of helices and strands lie between 90 and 150 degrees (Kleywegt
    1997, doi:10.1006/jmbi.1997.1309); outside 75 to 155 degrees they are counted.

    Parameters
    ----------
    model
        The input model: which residues are neighbours, and for comparison.
    structures
        (m, r, 3) residue centres in Å.

    Returns
    -------
    dict
        `bond_outliers`, `angle_outliers`: parts of all distances and angles of all structures;
        `…_model` those of the input model. NaN where the model has no protein chain.
    """
    bonds = _bonds(model)
    angles = bonds[:-1][bonds[:-1] + 1 == bonds[1:]] if len(bonds) > 1 else bonds[:0]
    scores = {}
    for suffix, points in (("", structures), ("_model", model.centres_angstrom[None])):
        scores[f"bond_outliers{suffix}"] = _part(~_is_bond(points, bonds))
        scores[f"angle_outliers{suffix}"] = _part(~_is_angle(points, angles))
    return scores


def _bonds(model: AtomicModel) -> Int[np.ndarray, " b"]:
    """Rows of protein residues whose successor follows in the chain."""
    centres = model.centres_angstrom
    follows = (model.chain[1:] == model.chain[:-1]) & (np.diff(model.residue_number) <= 1)
    protein = model.residue_kind == "protein"
    near = np.linalg.norm(np.diff(centres, axis=0), axis=1) < _LONGEST_BOND_ANGSTROM
    return np.flatnonzero(follows & protein[1:] & protein[:-1] & near)


def _is_bond(
    points: Float[np.ndarray, "m r 3"], bonds: Int[np.ndarray, " b"]
) -> Bool[np.ndarray, "m b"]:
    length = np.linalg.norm(points[:, bonds + 1] - points[:, bonds], axis=2)
    trans, cis = (
        np.abs(length - ideal) <= _TOLERANCE_ANGSTROM for ideal in (_TRANS_ANGSTROM, _CIS_ANGSTROM)
    )
    result: Bool[np.ndarray, "m b"] = trans | cis
    return result


def _is_angle(
    points: Float[np.ndarray, "m r 3"], first: Int[np.ndarray, " a"]
) -> Bool[np.ndarray, "m a"]:
    back, ahead = (
        points[:, first] - points[:, first + 1],
        points[:, first + 2] - points[:, first + 1],
    )
    cosine = (back * ahead).sum(2) / (
        np.linalg.norm(back, axis=2) * np.linalg.norm(ahead, axis=2)
    ).clip(1e-9)
    degrees = np.degrees(np.arccos(cosine.clip(-1.0, 1.0)))
    result: Bool[np.ndarray, "m a"] = (degrees >= _ANGLES_DEGREES[0]) & (
        degrees <= _ANGLES_DEGREES[1]
    )
    return result


def _part(outside: Bool[np.ndarray, "m b"]) -> float:
    return float(outside.mean()) if outside.size else float("nan")


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
    nominal = model.centres_angstrom[chain]
    moved = structures[:, chain]
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
