"""Trajectories along the latent components, as files that molecular viewers play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kinesphere.analysis.latent import Traversal
from kinesphere.io.structure import AtomicModel, write_model
from kinesphere.runs.finished_run import FinishedRun

PDB_MAXIMUM_ATOMS = 99_999
PDB_MAXIMUM_RESIDUE_NUMBER = 9_999


def trajectory_suffix(model: AtomicModel) -> str:
    """Choose PDB, which every program reads, unless the model outgrows its columns."""
    fits = (
        model.n_atoms <= PDB_MAXIMUM_ATOMS
        and model.residue_number.max() <= PDB_MAXIMUM_RESIDUE_NUMBER
        and all(len(str(name)) <= 1 for name in np.unique(model.chain))
    )
    return ".pdb" if fits else ".cif"


def write_trajectory(folder: Path, run: FinishedRun, traversal: Traversal, number: int) -> Path:
    """Write all atoms along one traversal as a multi-model file.

    Parameters
    ----------
    folder
        Where to write `pc<number>_trajectory.pdb` (or `.cif`).
    run
        Decodes the latents.
    traversal
        The points of the component.
    number
        Of the component, from 1.

    Returns
    -------
    Path
        The file.
    """
    path = folder / f"pc{number}_trajectory{trajectory_suffix(run.model)}"
    write_model(path, run.model, np.asarray(run.decode_atoms(traversal.latents), np.float64))
    return path


def write_motion_coloured(
    path: Path,
    model: AtomicModel,
    positions: Float[np.ndarray, "atoms 3"],
    amplitude: Float[np.ndarray, " residues"],
) -> None:
    """Write a model whose B-factor column holds each residue's RMS displacement in Å.

    Parameters
    ----------
    path
        mmCIF or PDB by suffix.
    model
        Names and residues.
    positions
        (atoms, 3) in Å.
    amplitude
        (residues,) in Å.
    """
    coloured = replace(model, b_factor=np.asarray(amplitude, np.float64)[model.residue_index])
    write_model(path, coloured, np.asarray(positions, np.float64))
