"""What a run moves: from the files a user gave, or from a run folder, to the reference that motion
and renderer see.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.io.structure import AtomicModel, read_model, write_model
from kinesphere.methods.config import FieldRunConfig
from kinesphere.methods.frame import find_centre
from kinesphere.motion.coarse_grain import coarse_grain
from kinesphere.motion.pseudo_atoms import (
    PseudoAtoms,
    Solid,
    default_count,
    find_solid,
    fit_to_density,
    pseudo_atoms_of,
)
from kinesphere.motion.reference import Reference, reference_of_pseudo_atoms
from kinesphere.particles import ParticleSet

MODEL_FILE, PSEUDO_ATOM_FILE = "model.cif", "pseudo_atoms.npz"
_FINEST_OF_PIXELS = 2.5


@dataclass(frozen=True)
class Subject:
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

    @property
    def noun(self) -> str:
        """What its points are."""
        return "residues" if self.pseudo_atoms is None else "pseudo-atoms"

    def save(self, folder: Path) -> None:
        """Write it to a run folder."""
        write_model(folder / MODEL_FILE, self.model)
        if self.pseudo_atoms is not None:
            self.pseudo_atoms.save(folder / PSEUDO_ATOM_FILE)


def subject_of_map(config: FieldRunConfig, particles: ParticleSet) -> Subject:
    """Turn a consensus map, or an atomic model in it, into pseudo-atoms.

    Raises
    ------
    InputError
        If the map is not that of the particles, or cannot be filled with pseudo-atoms.
    """
    centre = find_centre(particles, config.map)
    density, solid = read_solid(config)
    step, resolution = density.pixel_size_angstrom, _resolution_used(config, density)
    seed = config.training.seed
    if config.model is None:
        finest = max(config.training.images.resolution_angstrom, 2.0 * step)
        count = config.n_gaussians or default_count(solid, finest)
        atoms = pseudo_atoms_of(solid, count, resolution, config.n_classes, seed)
    else:
        start = coarse_grain(read_model(config.model), centre, str(config.model), config.n_classes)
        atoms = fit_to_density(start, solid, resolution, seed, move=False)
    return subject_of_pseudo_atoms(atoms, centre)


def read_solid(config: FieldRunConfig) -> tuple[DensityMap, Solid]:
    """Read the consensus map, and find where in it the molecule is."""
    density = read_map(config.map)
    resolution = _resolution_used(config, density)
    return density, find_solid(
        density.data, density.pixel_size_angstrom, resolution, config.map, config.threshold
    )


def _resolution_used(config: FieldRunConfig, density: DensityMap) -> float:
    return max(config.map_resolution_angstrom, _FINEST_OF_PIXELS * density.pixel_size_angstrom)


def subject_of_pseudo_atoms(atoms: PseudoAtoms, centre_angstrom: NDArray[np.float64]) -> Subject:
    """Make the subject of a run from its pseudo-atoms."""
    positions = atoms.positions.double().numpy() + centre_angstrom
    return Subject(as_model(positions), reference_of_pseudo_atoms(atoms), centre_angstrom, atoms)


def load_pseudo_atoms(folder: Path, centre_angstrom: NDArray[np.float64]) -> Subject:
    """Read the subject of a field run from its folder."""
    return subject_of_pseudo_atoms(PseudoAtoms.load(folder / PSEUDO_ATOM_FILE), centre_angstrom)


def as_model(positions: NDArray[np.float64]) -> AtomicModel:
    """Write pseudo-atoms as an atomic model: one residue each, without an element that would claim
    to know it.
    """
    count = len(positions)
    own, zeros = np.arange(count), np.zeros(count)

    def text(value: str) -> Shaped[np.ndarray, " g"]:
        return np.full(count, value, dtype=np.str_)

    return AtomicModel(
        positions_angstrom=np.asarray(positions, dtype=np.float64),
        atomic_number=zeros.astype(np.int64),
        atom_name=text("X"),
        alt_loc=text(""),
        residue_index=own,
        b_factor=zeros,
        occupancy=zeros + 1.0,
        residue_name=text("UNX"),
        chain=text("A"),
        insertion_code=text(""),
        residue_number=own + 1,
        residue_kind=text("other"),
        centre_atom=own,
    )


def describe_shared(config: FieldRunConfig) -> dict[str, object]:
    """Say what the two half sets have in common, for run.yaml."""
    source = config.map if config.model is None else config.model
    shared = [
        (
            f"start of the pseudo-atoms: {source.name}, nothing finer than "
            f"{config.map_resolution_angstrom:g} Å"
        )
    ]
    if config.model is not None:
        shared = [
            f"start of the pseudo-atoms: coarse-grained from {config.model.name}",
            "consensus map: their widths",
        ]
    if config.regularise_with_model:
        shared.append(
            f"restraints: bonds of {config.model.name if config.model else ''}; biased towards "
            "that model"
        )
    shared.append("poses and CTF of all particles, as they come")
    return {"shared_by_half_sets": shared}


def model_bias(config: FieldRunConfig) -> str | None:
    """Warn where the bonds of an atomic model restrain the field (the paper's section on model
    bias).
    """
    if not config.regularise_with_model:
        return None
    return (
        "Model bias: with --regularise-with-model the deformations, and maps made from them, "
        "can come to resemble the "
        "given model even where it is wrong, most of all in flexible regions. Do not validate "
        "that model with this run."
    )
