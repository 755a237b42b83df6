"""Helices and strands from CA positions alone, for drawing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Shaped

from kinesphere.io.structure import AtomicModel

CHAIN_STEP_ANGSTROM = 4.3
SHORTEST_HELIX, SHORTEST_STRAND = 5, 4
HELIX = {
    "d2": (5.5, 0.5),
    "d3": (5.3, 0.5),
    "d4": (6.4, 0.6),
    "angle": (89.0, 12.0),
    "dihedral": (50.0, 20.0),
}
STRAND = {
    "d2": (6.7, 0.6),
    "d3": (9.9, 0.9),
    "d4": (12.4, 1.1),
    "angle": (124.0, 14.0),
    "dihedral": (-170.0, 45.0),
}


def secondary_structure(model: AtomicModel) -> Shaped[np.ndarray, " residues"]:
    """Assign helices and strands with the CA criteria of P-SEA.

    Parameters
    ----------
    model
        Its central atoms are used; only protein residues can be assigned.

    Returns
    -------
    ndarray
        (residues,) `h`, `s` or `c`.

    References
    ----------
    Labesse et al. (1997) Comput. Appl. Biosci. 13, 291-295, doi:10.1093/bioinformatics/13.3.291:
    distances to the second, third and fourth residue, angle of three and dihedral of four
    successive CA atoms (table 1), without its extension of the ends.
    """
    code = np.full(model.n_residues, "c")
    for start, stop in _continuous_runs(model):
        geometry = _geometry(model.centres_angstrom[start:stop])
        helix = _runs_of(
            _matches(geometry, HELIX, ("d3", "d4"), ("angle", "dihedral")), SHORTEST_HELIX
        )
        strand = _runs_of(
            _matches(geometry, STRAND, ("d2", "d3", "d4"), ("angle", "dihedral")), SHORTEST_STRAND
        )
        code[start:stop][strand] = "s"
        code[start:stop][helix] = "h"
    return code


def breaks_after(model: AtomicModel) -> Bool[np.ndarray, " residues"]:
    """Tell after which residues the backbone is interrupted: a new chain, another kind, or a
    missing stretch.
    """
    centre, n = model.centres_angstrom, model.n_residues
    broken = np.ones(n, bool)
    step = np.linalg.norm(np.diff(centre, axis=0), axis=1)
    reach = np.where(
        model.residue_kind[:-1] == "protein", CHAIN_STEP_ANGSTROM, 2 * CHAIN_STEP_ANGSTROM
    )
    same = (model.chain[1:] == model.chain[:-1]) & (
        model.residue_kind[1:] == model.residue_kind[:-1]
    )
    broken[:-1] = ~same | (step > reach) | (model.residue_kind[:-1] == "other")
    return broken


def _continuous_runs(model: AtomicModel) -> list[tuple[int, int]]:
    """Stretches of protein without a gap, as half-open ranges of residue rows."""
    stops = np.flatnonzero(breaks_after(model)) + 1
    starts = np.concatenate([[0], stops[:-1]])
    protein = model.residue_kind[starts] == "protein"
    return [(int(a), int(b)) for a, b in zip(starts[protein], stops[protein], strict=True)]


def _geometry(ca: Float[np.ndarray, "n 3"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Distances, angles and dihedrals that start at each residue (the angle is centred); NaN where
    the run ends.
    """
    n = len(ca)
    values = {name: np.full(n, np.nan) for name in HELIX}
    for step in (2, 3, 4):
        if n > step:
            values[f"d{step}"][: n - step] = np.linalg.norm(ca[step:] - ca[:-step], axis=1)
    bond = np.diff(ca, axis=0)
    if n > 2:
        cosine = (
            -np.sum(bond[:-1] * bond[1:], axis=1)
            / np.linalg.norm(bond[:-1], axis=1)
            / np.linalg.norm(bond[1:], axis=1)
        )
        values["angle"][1:-1] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    if n > 3:
        left, right = np.cross(bond[:-2], bond[1:-1]), np.cross(bond[1:-1], bond[2:])
        axis = bond[1:-1] / np.linalg.norm(bond[1:-1], axis=1, keepdims=True)
        sine = np.sum(np.cross(left, right) * axis, axis=1)
        values["dihedral"][1 : n - 2] = np.degrees(np.arctan2(sine, np.sum(left * right, axis=1)))
    return values


def _matches(
    geometry: dict[str, Float[np.ndarray, " n"]],
    target: dict[str, tuple[float, float]],
    distances: tuple[str, ...],
    angles: tuple[str, ...],
) -> Bool[np.ndarray, " n"]:
    """Find residues whose distances all fit, or whose angles all fit."""
    return np.all([_near(geometry, target, name) for name in distances], axis=0) | np.all(
        [_near(geometry, target, name) for name in angles], axis=0
    )


def _near(
    geometry: dict[str, Float[np.ndarray, " n"]], target: dict[str, tuple[float, float]], name: str
) -> Bool[np.ndarray, " n"]:
    centre, tolerance = target[name]
    difference = geometry[name] - centre
    if name == "dihedral":
        difference = (difference + 180) % 360 - 180
    return np.abs(np.nan_to_num(difference, nan=np.inf)) <= tolerance


def _runs_of(mask: Bool[np.ndarray, " n"], shortest: int) -> Bool[np.ndarray, " n"]:
    """Keep the stretches of True that are long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    kept = np.zeros_like(mask)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        kept[start:stop] = stop - start >= shortest
    return kept
