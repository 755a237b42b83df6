"""What a run moves, in the frame of the input files and as motion and renderer see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from kinesphere.io.structure import AtomicModel, write_model
from kinesphere.motion.pseudo_atoms import PseudoAtoms
from kinesphere.motion.reference import Reference, reference_of_pseudo_atoms

MODEL_FILE = "model.cif"
PSEUDO_ATOM_FILE = "pseudo_atoms.npz"


@dataclass(frozen=True)
class Molecule:
    """What a run moves.

    Parameters
    ----------
    model
        Its atoms, or pseudo-atoms in the form of atoms, in the frame of the input files.
    reference
        The same as motion and renderer see it.
    centre_angstrom
        (3,) the box centre in the frame of the input files.
    pseudo_atoms
        What a map was turned into, where it was.
    """

    model: AtomicModel
    reference: Reference
    centre_angstrom: NDArray[np.float64]
    pseudo_atoms: PseudoAtoms | None = None

    @classmethod
    def of_pseudo_atoms(cls, atoms: PseudoAtoms, centre_angstrom: NDArray[np.float64]) -> Molecule:
        """Return the molecule that pseudo-atoms stand for.

        Parameters
        ----------
        atoms
            Pseudo-atoms, the box centre at zero.
        centre_angstrom
            (3,) the box centre in the frame of the input files.
        """
        positions = atoms.positions.double().numpy() + centre_angstrom
        reference = reference_of_pseudo_atoms(atoms)
        return cls(as_model(positions), reference, centre_angstrom, atoms)

    def save(self, folder: Path) -> None:
        """Write it to a run folder."""
        write_model(folder / MODEL_FILE, self.model)
        if self.pseudo_atoms is not None:
            self.pseudo_atoms.save(folder / PSEUDO_ATOM_FILE)


def as_model(positions: NDArray[np.float64]) -> AtomicModel:
    """Write pseudo-atoms as an atomic model.

    Each is a residue of its own, without an element, which would claim to know what it is.

    Parameters
    ----------
    positions
        (g, 3) in Å.
    """
    count = len(positions)
    row = np.arange(count)

    def text(value: str) -> Shaped[np.ndarray, " g"]:
        return np.full(count, value, dtype=np.str_)

    return AtomicModel(
        positions_angstrom=np.asarray(positions, dtype=np.float64),
        atomic_number=np.zeros(count, dtype=np.int64),
        atom_name=text("X"),
        alt_loc=text(""),
        residue_index=row,
        b_factor=np.zeros(count),
        occupancy=np.ones(count),
        residue_name=text("UNX"),
        chain=text("A"),
        insertion_code=text(""),
        residue_number=row + 1,
        residue_kind=text("other"),
        centre_atom=row,
    )
