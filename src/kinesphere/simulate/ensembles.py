"""Ensembles of structures to simulate from: files, hinge rotations, and the bundled adenylate
kinase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel, match_atoms, read_model, read_models
from kinesphere.simulate.hinges import HingeMotion
from kinesphere.simulate.rigid_path import domain_path

CLOSED_FILE = "adenylate_kinase_1ake.cif.gz"
OPEN_FILE = "adenylate_kinase_4ake.cif.gz"
NMP_RESIDUES = (30, 59)
LID_RESIDUES = (122, 159)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Conformations of one molecule, and where each lies in the space of its motions.

    Attributes
    ----------
    model
        The nominal model; what a user of the particles would start from.
    positions
        (n_states, n_atoms, 3) Å.
    coordinate
        (n_states, n_motions) in [0, 1].
    """

    model: AtomicModel
    positions: NDArray[np.float64]
    coordinate: NDArray[np.float64]

    @property
    def n_states(self) -> int:
        """Number of conformations."""
        return len(self.positions)

    @property
    def shown_residues(self) -> NDArray[np.int64]:
        """Rows of the protein and nucleic residues, whose central atoms the truth file lists."""
        return np.flatnonzero(self.model.is_polymer)

    @property
    def radius_angstrom(self) -> float:
        """Largest distance of an atom from the origin, over all states."""
        return float(np.sqrt((self.positions**2).sum(axis=-1).max()))

    def moved(self, shift_angstrom: NDArray[np.float64]) -> Ensemble:
        """Return the ensemble with everything shifted by (3,) Å."""
        model = self.model.with_positions(self.model.positions_angstrom + shift_angstrom)
        return replace(self, model=model, positions=self.positions + shift_angstrom)

    def centred(self) -> Ensemble:
        """Return the ensemble with the mean of its residue centres, over all states, at zero."""
        centres = self.positions[:, self.model.centre_atom[self.shown_residues]]
        return self.moved(-centres.mean(axis=(0, 1)))


def ensemble_from_files(paths: Sequence[Path]) -> Ensemble:
    """Read states from files in the order given; a file may hold several models.

    Parameters
    ----------
    paths
        PDB or mmCIF files with the same atoms in one frame. The first model of the first is the
        nominal one.

    Returns
    -------
    Ensemble
        The states at equal distances along one coordinate.

    Raises
    ------
    InputError
        If a file cannot be read or lacks an atom of the first.
    """
    model, positions = read_models(paths[0])
    states = list(positions)
    for path in paths[1:]:
        other, others = read_models(path)
        states += [match_atoms(model, other.with_positions(state), path) for state in others]
    return Ensemble(model, np.stack(states), _evenly_spaced(len(states)))


def ensemble_from_hinges(
    model: AtomicModel, hinges: Sequence[HingeMotion], n_states: int
) -> Ensemble:
    """Turn parts of one structure about hinges.

    Parameters
    ----------
    model
        The structure; also the nominal model.
    hinges
        One motion each, independent of the others and applied in this order: of nested parts the
        inner one comes first.
    n_states
        States along each motion; there are n_states to the power of the number of hinges in all.

    Returns
    -------
    Ensemble
        A grid of states; coordinate j is 0 at the start angle of hinge j and 1 at its end angle.
    """
    steps = _evenly_spaced(n_states)[:, 0]
    coordinate = np.stack(np.meshgrid(*[steps] * len(hinges), indexing="ij"), axis=-1).reshape(
        -1, len(hinges)
    )
    positions = np.repeat(model.positions_angstrom[None], len(coordinate), axis=0)
    for column, hinge in enumerate(hinges):
        positions = np.stack(
            [
                hinge.turn(state, value)
                for state, value in zip(positions, coordinate[:, column], strict=True)
            ]
        )
    return Ensemble(model, positions, coordinate)


def adenylate_kinase(n_states: int) -> Ensemble:
    """Open the bundled *E. coli* adenylate kinase: from PDB 1AKE (closed, the nominal model) to
    4AKE (open).

    The NMP (residues 30–59) and LID (122–159) domains move as rigid bodies relative to the core.

    Parameters
    ----------
    n_states
        States along the path, both ends included.

    Returns
    -------
    Ensemble
        214 residues, 1,656 atoms; coordinate 0 closed, 1 open.
    """
    model = _bundled(CLOSED_FILE)
    opened = _bundled(OPEN_FILE)
    number = model.residue_number
    nmp, lid = (
        (number >= first) & (number <= last) for first, last in (NMP_RESIDUES, LID_RESIDUES)
    )
    coordinate = _evenly_spaced(n_states)
    end = match_atoms(model, opened, OPEN_FILE)
    return Ensemble(
        model, domain_path(model, end, [~(nmp | lid), nmp, lid], coordinate[:, 0]), coordinate
    )


def _bundled(name: str) -> AtomicModel:
    with as_file(files("kinesphere.data") / name) as path:
        return read_model(path)


def _evenly_spaced(n_states: int) -> NDArray[np.float64]:
    """(n_states, 1) from 0 to 1."""
    if n_states < 1:
        raise InputError(
            "--n-states", f"{n_states} states cannot be simulated", "Ask for one or more"
        )
    return np.linspace(0, 1, n_states)[:, None]
