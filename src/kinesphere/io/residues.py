"""What a residue is, and which atom stands for it."""

from __future__ import annotations

import gemmi
import numpy as np

PROTEIN = "protein"
NUCLEIC = "nucleic"
OTHER = "other"
_BACKBONE = frozenset({"N", "CA", "C"})
_SUGAR = frozenset({"C1'", "C3'", "C4'", "O3'"})


def residue_kind(name: str, atoms: list[gemmi.Atom]) -> str:
    """Classify a residue by gemmi's table of monomers, and one the table lacks by the backbone
    atoms it has.

    Parameters
    ----------
    name
        Component name (`ALA`, `SEP`, `A1LU6`).
    atoms
        Its atoms.

    Returns
    -------
    str
        `protein`, `nucleic` or `other` (sugar, ligand, ion, cap).
    """
    entry = gemmi.find_tabulated_residue(name)
    present = {atom.name for atom in atoms}
    if entry.is_amino_acid() or (not entry.found() and present >= _BACKBONE):
        return PROTEIN
    if entry.is_nucleic_acid() or (not entry.found() and present >= _SUGAR):
        return NUCLEIC
    return OTHER


def central_atom(kind: str, atoms: list[gemmi.Atom]) -> int:
    """Position in `atoms` of the atom that stands for the residue: CA, C4' or P, else the one
    nearest the centroid.
    """
    preferred = {PROTEIN: ("CA",), NUCLEIC: ("C4'", "C4*", "P")}.get(kind, ())
    names = [atom.name for atom in atoms]
    for name in preferred:
        if name in names:
            return names.index(name)
    positions = np.array([atom.pos.tolist() for atom in atoms])
    return int(np.argmin(np.linalg.norm(positions - positions.mean(axis=0), axis=1)))


def one_conformer(residue: gemmi.Residue) -> list[gemmi.Atom]:
    """Atoms of the alternative location with the highest mean occupancy (the first among equals),
    each name once.

    A name that only another location has is kept from there, so that no atom gets lost.
    """
    occupancies: dict[str, list[float]] = {}
    for atom in residue:
        if atom.has_altloc():
            occupancies.setdefault(atom.altloc, []).append(atom.occ)
    if not occupancies and len({atom.name for atom in residue}) == len(residue):
        return list(residue)
    preference = sorted(occupancies, key=lambda label: (-float(np.mean(occupancies[label])), label))
    rank = {"\0": -1} | {label: place for place, label in enumerate(preference)}
    chosen: dict[str, gemmi.Atom] = {}
    for atom in residue:
        held = chosen.get(atom.name)
        if held is None or rank[atom.altloc] < rank[held.altloc]:
            chosen[atom.name] = atom
    return list(chosen.values())
