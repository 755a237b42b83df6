"""From an atomic model to pseudo-atoms and their bonds, by the DynaMight paper's rules (Methods,
reference model).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel
from kinesphere.motion.pseudo_atoms import PseudoAtoms

_MAIN_CHAIN = ("N", "C", "O", "OXT", "CA")
_BETA_ONLY = ("SER", "CYS", "ALA", "GLY", "VAL", "THR")
_TWO_ENDS = ("TYR", "TRP")
_FIRST_WIDTH_ANGSTROM = 2.0
_LONGEST_LINK_ANGSTROM = 9.0
_LONGEST_NUCLEIC_LINK_ANGSTROM = 12.0

Group = list[int]


def coarse_grain(
    model: AtomicModel, centre_angstrom: NDArray[np.floating], source: str, n_classes: int = 1
) -> PseudoAtoms:
    """Group the atoms of each residue into pseudo-atoms, with the bonds between them.

    An amino acid has one at the barycentre of N, C and O, one at its first side-chain atoms (Cα,
    Cβ, Cγ; Cδ too in proline; in Ser, Cys, Ala, Val and Thr without Cα, which then counts to the
    main chain), one at the rest, two in Tyr and Trp; a nucleotide one at the phosphate, one at the
    sugar, two at the base. Amplitudes are proportional to the summed atomic numbers. Bonds join the
    main chain in sequence and every side chain to its main chain.

    Parameters
    ----------
    model
        Atomic model in the frame of the map.
    centre_angstrom
        (3,) the box centre in that frame.
    source
        File of the model, for messages.
    n_classes
        Number of classes of width that amplitudes are shared between.

    Returns
    -------
    PseudoAtoms
        Amplitudes add up to 1; widths are a first guess.

    Raises
    ------
    InputError
        If the model holds no amino acid or nucleotide.
    """
    charge = model.nuclear_charge
    atoms_of = np.searchsorted(model.residue_index, np.arange(model.n_residues + 1))
    places: list[NDArray[np.float64]] = []
    weights: list[float] = []
    edges: list[tuple[int, int]] = []
    previous: tuple[str, int] | None = None
    for residue in np.flatnonzero(model.residue_kind != "other"):
        atoms = range(int(atoms_of[residue]), int(atoms_of[residue + 1]))
        heavy = {str(model.atom_name[a]): a for a in atoms if model.atomic_number[a] != 1}
        is_protein = model.residue_kind[residue] == "protein"
        name = str(model.residue_name[residue])
        chain = str(model.chain[residue])
        groups = list(_protein_groups(name, heavy) if is_protein else _nucleotide_groups(heavy))
        first = len(places)
        for group in groups:
            places.append(model.positions_angstrom[group].mean(0))
            weights.append(float(charge[group].sum()))
        edges += [(first + k, first + k + 1) for k in range(len(groups) - 1)]
        if not groups:
            continue
        limit = _LONGEST_LINK_ANGSTROM if is_protein else _LONGEST_NUCLEIC_LINK_ANGSTROM
        if previous is not None and previous[0] == chain:
            gap = float(np.linalg.norm(places[first] - places[previous[1]]))
            edges += [(previous[1], first)] if gap < limit else []
        # the chain goes on from the sugar of a nucleotide, from the main chain of an amino acid
        last_of_chain = first if is_protein else first + min(1, len(groups) - 1)
        previous = (chain, last_of_chain)
    if not places:
        raise InputError(
            source, "has no amino acid or nucleotide", "Give a model of a protein or nucleic acid"
        )
    amplitude = np.array(weights) / (n_classes * sum(weights))
    positions = np.stack(places) - np.asarray(centre_angstrom)
    width = _FIRST_WIDTH_ANGSTROM * (
        np.geomspace(0.8, 1.25, n_classes) if n_classes > 1 else np.ones(1)
    )
    return PseudoAtoms(
        torch.as_tensor(positions, dtype=torch.float32),
        torch.as_tensor(np.tile(amplitude, (n_classes, 1)), dtype=torch.float32),
        torch.as_tensor(width, dtype=torch.float32),
        torch.as_tensor(np.array(edges, dtype=np.int64).reshape(-1, 2)),
    )


def _protein_groups(name: str, heavy: dict[str, int]) -> Iterator[Group]:
    """Yield the main chain, then the side chain from its root."""
    side = {atom: row for atom, row in heavy.items() if atom not in _MAIN_CHAIN}
    root_greek = "B" if name in _BETA_ONLY else "BGD" if name == "PRO" else "BG"
    root = [row for atom, row in side.items() if atom[1:2] in root_greek]
    rest = {atom: row for atom, row in side.items() if row not in root}
    if name in _BETA_ONLY:  # what hangs on Cβ is no group of its own
        root = [*root, *rest.values()]
        rest = {}
    alpha = [heavy["CA"]] if "CA" in heavy else []
    main = [heavy[atom] for atom in ("N", "C", "O", "OXT") if atom in heavy]
    if name in _BETA_ONLY or not root or not main:
        main = [*main, *alpha]
        alpha = []
    yield from (group for group in (main, [*alpha, *root] if root else []) if group)
    if name in _TWO_ENDS and rest:
        near = [
            row
            for atom, row in rest.items()
            if atom[1:2] == "D" or (atom[1:2] == "E" and name == "TYR")
        ]
        far = [row for row in rest.values() if row not in near]
        yield from (group for group in (near, far) if group)
    elif rest:
        yield list(rest.values())


def _nucleotide_groups(heavy: dict[str, int]) -> Iterator[Group]:
    """Yield phosphate, sugar, and the two halves of the base, from the sugar outwards."""
    phosphate = [
        row
        for atom, row in heavy.items()
        if atom in {"P", "OP1", "OP2", "OP3", "O1P", "O2P", "O3P"}
    ]
    sugar = [row for atom, row in heavy.items() if "'" in atom or "*" in atom]
    base = {atom: row for atom, row in heavy.items() if row not in phosphate and row not in sugar}
    near = [
        row
        for atom, row in base.items()
        if atom in {"N1", "C2", "O2", "N9", "C8", "N7", "C4", "C5"}
    ]
    far = [row for row in base.values() if row not in near]
    yield from (group for group in (phosphate, sugar, near, far) if group)
