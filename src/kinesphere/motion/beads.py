"""Which Gaussians stand for an atomic model: where they are, and how many electrons each has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the options of a method name a placement, and their help has to be quick
    from kinesphere.io.structure import AtomicModel

BeadPlacement = Literal["centroid", "centre", "atoms"]
"""One Gaussian a residue at its electron-weighted centroid or at its central atom (the cryoSPHERE
paper's Cα), or one an atom."""

_HYDROGEN = 1


def place_beads(
    model: AtomicModel,
    positions: NDArray[np.float64],
    point_of_residue: NDArray[np.int64],
    placement: BeadPlacement,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Place the Gaussians that stand for a model; hydrogens and absent atoms have none.

    Parameters
    ----------
    model
        The atomic model.
    positions
        (n_atoms, 3) its atoms in Å.
    point_of_residue
        (n_residues,) the point of the motion model that each residue moves with.
    placement
        See `BeadPlacement`.

    Returns
    -------
    tuple
        (g, 3) positions in Å, (g,) electrons, (g,) the point that each moves with.
    """
    electrons = model.electrons
    if placement == "atoms":
        heavy = (model.atomic_number != _HYDROGEN) & (electrons > 0)
        return positions[heavy], electrons[heavy], point_of_residue[model.residue_index[heavy]]
    amplitude = np.bincount(model.residue_index, electrons, model.n_residues).astype(np.float64)
    present = amplitude > 0
    if placement == "centre":
        beads = positions[model.centre_atom]
    else:
        moments = [
            np.bincount(model.residue_index, electrons * positions[:, axis], model.n_residues)
            for axis in range(3)
        ]
        beads = np.stack(moments, 1) / np.maximum(amplitude, 1e-9)[:, None]
    return beads[present], amplitude[present], point_of_residue[present]
