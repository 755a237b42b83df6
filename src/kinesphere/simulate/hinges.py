"""Hinge motions of a part of a structure, and how a user writes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.selection import select_residues
from kinesphere.io.structure import AtomicModel

_OPTION = "--hinge"
_FORM = "RESIDUES/PIVOT/FROM/TO, for example A:122-159/A:122/-10/40 (degrees)"


@dataclass(frozen=True, eq=False)
class HingeMotion:
    """A rotation of some atoms about an axis through a pivot.

    Attributes
    ----------
    moving
        (n_atoms,) True for the atoms that turn.
    pivot
        (3,) Å.
    axis
        (3,) unit vector; positive angles open the hinge.
    start_degrees, end_degrees
        Angles at coordinate 0 and 1; the structure as given is at angle zero.
    """

    moving: NDArray[np.bool_]
    pivot: NDArray[np.float64]
    axis: NDArray[np.float64]
    start_degrees: float
    end_degrees: float

    def turn(self, positions: NDArray[np.float64], coordinate: float) -> NDArray[np.float64]:
        """Return positions (n_atoms, 3) with the moving atoms turned to `coordinate` in [0, 1]."""
        angle = self.start_degrees + coordinate * (self.end_degrees - self.start_degrees)
        rotation = Rotation.from_rotvec(np.deg2rad(angle) * self.axis)
        result = positions.copy()
        result[self.moving] = rotation.apply(positions[self.moving] - self.pivot) + self.pivot
        return result


def parse_hinge(text: str, model: AtomicModel) -> HingeMotion:
    """Read a hinge as a user writes it.

    Parameters
    ----------
    text
        `RESIDUES/PIVOT/FROM/TO`: residues such as `A:122-159` or `A:1-214,B:1-225,E` (a whole
        chain), the residue whose central atom is the pivot, and two angles in degrees.
    model
        Structure that the residues belong to.

    Returns
    -------
    HingeMotion
        Its axis passes through the pivot at right angles to the plane through the pivot and the
        centroids of the moving part and of the rest; positive angles turn the part away from the
        rest.

    Raises
    ------
    InputError
        If the text has another form, or names residues that the model does not have.
    """
    try:
        residues, pivot_name, *angles = text.split("/")
        start = float(angles[0])
        end = float(angles[1])
    except (IndexError, ValueError):
        raise InputError(_OPTION, f"'{text}' cannot be read", f"Write {_FORM}") from None
    moving = select_residues(residues, model, _OPTION)
    pivots = np.flatnonzero(select_residues(pivot_name, model, _OPTION))
    if len(pivots) != 1 or moving.all():
        problem = (
            f"'{text}' names {len(pivots)} residues as pivot and moves {moving.sum()} of "
            f"{model.n_residues}"
        )
        raise InputError(
            _OPTION, problem, "Name one residue as pivot, and leave some residues at rest"
        )
    pivot = model.centres_angstrom[pivots[0]]
    centres = model.centres_angstrom
    axis = _opening_axis(
        centres[moving].mean(axis=0) - pivot, centres[~moving].mean(axis=0) - pivot
    )
    return HingeMotion(moving[model.residue_index], pivot, axis, start, end)


def _opening_axis(
    towards_part: NDArray[np.float64], towards_rest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the unit vector about which a positive turn takes the part away from the rest; any
    normal if in line.
    """
    axis = np.cross(towards_rest, towards_part)
    if np.linalg.norm(axis) < 1e-3 * np.linalg.norm(towards_part) * np.linalg.norm(towards_rest):
        axis = np.cross(towards_part, np.eye(3)[np.argmin(np.abs(towards_part))])
    return axis / np.linalg.norm(axis)
