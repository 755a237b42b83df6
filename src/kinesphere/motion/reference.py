"""From an atomic model to y⁰: what moves, what is rendered, and which atom rides with which
residue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel
from kinesphere.motion.beads import BeadPlacement, place_beads
from kinesphere.motion.copies import Copies, find_copies
from kinesphere.motion.pseudo_atoms import PseudoAtoms


@dataclass(frozen=True)
class Reference:
    """The nominal model as motion and renderer see it; positions in Å, the centre of the box at
    zero.

    Parameters
    ----------
    points
        (n_points, 3) central atoms of the polymer's residues: what the motion model moves.
    chain, domains
        (n_points,) number of each point's chain, and of the range (the chain, or one the user gave)
        that its segments stay in.
    beads, amplitude, bead_owner
        (n_beads, 3), (n_beads,), (n_beads,): the Gaussians that are rendered, and the point each
        rides with. Where they are of several widths, `amplitude` has a row for each.
    atoms, atom_owner
        (n_atoms, 3), (n_atoms,): every atom of the model, and the point it rides with.
    residue
        (n_points,) row of each point in the model's residue table.
    width_angstrom
        Standard deviations of the Gaussians where they follow from a map; none: the user's choice.
    edges
        (e, 2) bonds between points that an atomic model gave; none: neighbours are to be found.
    copies
        Which domains are copies of one another; none: no two are alike.
    """

    points: Float[Tensor, "p 3"]
    chain: Int[Tensor, " p"]
    domains: Int[Tensor, " p"]
    beads: Float[Tensor, "g 3"]
    amplitude: Float[Tensor, "*classes g"]
    bead_owner: Int[Tensor, " g"]
    atoms: Float[Tensor, "a 3"]
    atom_owner: Int[Tensor, " a"]
    residue: Int[Tensor, " p"]
    width_angstrom: tuple[float, ...] | None = None
    edges: Int[Tensor, "e 2"] | None = None
    copies: Copies | None = None


def build_reference(
    model: AtomicModel,
    centre_angstrom: NDArray[np.floating],
    *,
    source: str,
    placement: BeadPlacement = "centroid",
    domain_of_residue: NDArray[np.integer] | None = None,
) -> Reference:
    """Prepare an atomic model for a run.

    Sugars, ligands and ions ride with the nearest residue of a polymer. A bead's amplitude is the
    sum of the atomic numbers it stands for: the electrons of eq. 1.

    Parameters
    ----------
    model
        The nominal model.
    centre_angstrom
        (3,) where the centre of the particles' box is in the frame of the model.
    source
        Name of the file, for error messages.
    placement
        One bead a residue at its electron-weighted centroid or at its central atom (the paper's
        Cα), or one an atom.
    domain_of_residue
        (n_residues,) labels, if segments must stay within ranges other than chains.

    Returns
    -------
    Reference
        Tensors on the CPU.

    Raises
    ------
    InputError
        If the model holds no protein or nucleic acid.
    """
    residue = np.flatnonzero(model.residue_kind != "other")
    if residue.size == 0:
        raise InputError(
            source, "has no amino acid or nucleotide", "Give a model of a protein or nucleic acid"
        )
    positions = model.positions_angstrom - np.asarray(centre_angstrom)
    points = positions[model.centre_atom[residue]]
    point_of_residue = _point_of_residue(model, positions, residue, points)
    atom_owner = point_of_residue[model.residue_index]
    beads, amplitude, bead_owner = place_beads(model, positions, point_of_residue, placement)
    chain = _chain_number(model)
    labels = chain if domain_of_residue is None else np.asarray(domain_of_residue)
    single = torch.float32
    whole = torch.int64
    return Reference(
        points=torch.as_tensor(points, dtype=single),
        chain=torch.as_tensor(chain[residue], dtype=whole),
        domains=torch.as_tensor(labels[residue], dtype=whole),
        beads=torch.as_tensor(beads, dtype=single),
        amplitude=torch.as_tensor(amplitude, dtype=single),
        bead_owner=torch.as_tensor(bead_owner, dtype=whole),
        atoms=torch.as_tensor(positions, dtype=single),
        atom_owner=torch.as_tensor(atom_owner, dtype=whole),
        residue=torch.as_tensor(residue, dtype=whole),
        copies=find_copies(model, residue, labels[residue]),
    )


def reference_of_pseudo_atoms(atoms: PseudoAtoms) -> Reference:
    """Prepare pseudo-atoms for a run: each is what moves, what is rendered and what is written."""
    own = torch.arange(len(atoms.positions))
    none = torch.zeros_like(own)
    return Reference(
        points=atoms.positions,
        chain=none,
        domains=none,
        beads=atoms.positions,
        amplitude=atoms.amplitude,
        bead_owner=own,
        atoms=atoms.positions,
        atom_owner=own,
        residue=own,
        width_angstrom=tuple(atoms.width_angstrom.tolist()),
        edges=atoms.edges if len(atoms.edges) else None,
    )


def _chain_number(model: AtomicModel) -> NDArray[np.int64]:
    """Label each residue with the number of its chain, in the order of the file."""
    names = {name: number for number, name in enumerate(dict.fromkeys(model.chain.tolist()))}
    return np.array([names[name] for name in model.chain.tolist()], dtype=np.int64)


def _point_of_residue(
    model: AtomicModel,
    positions: NDArray[np.float64],
    residue: NDArray[np.int64],
    points: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Which point every residue rides with: its own, or the nearest one for what is no polymer."""
    point = np.full(model.n_residues, -1, dtype=np.int64)
    point[residue] = np.arange(len(residue))
    rest = np.flatnonzero(point < 0)
    if rest.size:
        point[rest] = cKDTree(points).query(positions[model.centre_atom[rest]])[1]
    return point
