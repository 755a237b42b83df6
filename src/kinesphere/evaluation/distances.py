"""Distances between groups of residues, as a user names them: `A:122-159/A:1-29,A:60-121`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kinesphere.errors import InputError
from kinesphere.evaluation.metrics import amplitude, pearson, rms, spearman
from kinesphere.io.selection import select_residues
from kinesphere.io.structure import AtomicModel

_OPTION = "--distance"
_FORM = "Write two groups of residues with a / between them, as in A:122-159/A:1-29,A:60-121"


@dataclass(frozen=True)
class Distance:
    """The distance between the centroids of two groups of residues.

    Parameters
    ----------
    text
        As the user wrote it.
    first, second
        Positions of the groups' residues among those that truth and model share.
    """

    text: str
    first: Int[np.ndarray, " a"]
    second: Int[np.ndarray, " b"]

    def measure(self, structures: Float[np.ndarray, "m residues 3"]) -> Float[np.ndarray, " m"]:
        """Distances in Å, one a structure."""
        between = structures[:, self.first].mean(axis=1) - structures[:, self.second].mean(axis=1)
        return np.sqrt((between**2).sum(axis=1))


def measure_all(
    distances: Sequence[Distance], structures: Float[np.ndarray, "m residues 3"]
) -> Float[np.ndarray, "m distances"]:
    """Measure every distance in every structure, (m, n_distances) in Å."""
    measured = [distance.measure(structures) for distance in distances]
    return np.stack(measured, axis=1) if measured else np.empty((len(structures), 0))


def parse_distance(text: str, model: AtomicModel, rows: Int[np.ndarray, " residues"]) -> Distance:
    """Read a distance as a user writes it.

    Parameters
    ----------
    text
        Two groups of residues with a / between them; each group as in `A:1-29,A:60-121` or `A` for
        a whole chain.
    model
        The nominal model.
    rows
        (n_residues,) rows of its residue table that the truth has too.

    Returns
    -------
    Distance
        Between the centroids of the groups' residues that the truth has.

    Raises
    ------
    InputError
        If the text has another form, or a group names no residue of the truth.
    """
    groups = text.split("/")
    if len(groups) != 2:
        raise InputError(_OPTION, f"'{text}' cannot be read", _FORM)
    first, second = (_members(group, model, rows) for group in groups)
    return Distance(text, first, second)


def distance_scores(
    predicted: Float[np.ndarray, "m d"], true: Float[np.ndarray, "m d"]
) -> list[dict[str, float]]:
    """Score each distance over the images: `r`, `spearman`, `amplitude` and
    `rms_error_angstrom`.
    """
    return [
        {
            "r": pearson(one, other),
            "spearman": spearman(one, other),
            "amplitude": amplitude(one, other),
            "rms_error_angstrom": rms(one - other),
        }
        for one, other in zip(predicted.T, true.T, strict=True)
    ]


def _members(
    group: str, model: AtomicModel, rows: Int[np.ndarray, " residues"]
) -> Int[np.ndarray, " a"]:
    members = np.flatnonzero(select_residues(group, model, _OPTION, _FORM)[rows])
    if not len(members):
        raise InputError(_OPTION, f"the truth has no residue of '{group}'", _FORM)
    return members
