"""Atomic models: PDB and mmCIF in and out."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import gemmi
import numpy as np
from jaxtyping import Float64, Int64, Shaped
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.residues import (
    NUCLEIC,
    OTHER,
    PROTEIN,
    central_atom,
    one_conformer,
    residue_kind,
)
from kinesphere.runtime import atomic_write

_PDB_SUFFIXES = (".pdb", ".ent")
_CIF_SUFFIXES = (".cif", ".mmcif")
_PDB_COORDINATE_RANGE_ANGSTROM = (-999.9994, 9999.9994)
_UNKNOWN = 0
_CARBON = 6


@dataclass(frozen=True, eq=False)
class AtomicModel:
    """Atoms and residues of one structure, without waters, in the frame of its file.

    Attributes
    ----------
    positions_angstrom
        (n_atoms, 3) float64.
    atomic_number
        (n_atoms,) int; 0 for an unknown element.
    atom_name, alt_loc
        (n_atoms,) str; the alternative location that was kept, empty where there is only one.
    residue_index
        (n_atoms,) int, row of the residue table; atoms of a residue are consecutive.
    b_factor, occupancy
        (n_atoms,) float; Å² and fraction.
    residue_name, chain, insertion_code
        (n_residues,) str; the chain is the author's (`auth_asym_id`).
    residue_number
        (n_residues,) int, the author's.
    residue_kind
        (n_residues,) str: `protein`, `nucleic` or `other`.
    centre_atom
        (n_residues,) int: row of CA, of C4' (else P), or of the atom nearest the centroid of
        anything else.
    """

    positions_angstrom: Float64[np.ndarray, "n_atoms 3"]
    atomic_number: Int64[np.ndarray, " n_atoms"]
    atom_name: Shaped[np.ndarray, " n_atoms"]
    alt_loc: Shaped[np.ndarray, " n_atoms"]
    residue_index: Int64[np.ndarray, " n_atoms"]
    b_factor: Float64[np.ndarray, " n_atoms"]
    occupancy: Float64[np.ndarray, " n_atoms"]
    residue_name: Shaped[np.ndarray, " n_residues"]
    chain: Shaped[np.ndarray, " n_residues"]
    insertion_code: Shaped[np.ndarray, " n_residues"]
    residue_number: Int64[np.ndarray, " n_residues"]
    residue_kind: Shaped[np.ndarray, " n_residues"]
    centre_atom: Int64[np.ndarray, " n_residues"]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atom_name)

    @property
    def n_residues(self) -> int:
        """Number of residues of every kind."""
        return len(self.residue_name)

    @property
    def centres_angstrom(self) -> NDArray[np.float64]:
        """(n_residues, 3) positions of the central atoms."""
        centres: NDArray[np.float64] = self.positions_angstrom[self.centre_atom]
        return centres

    @property
    def is_polymer(self) -> NDArray[np.bool_]:
        """(n_residues,) True for protein and nucleic residues."""
        return self.residue_kind != OTHER

    @property
    def nuclear_charge(self) -> NDArray[np.float64]:
        """(n_atoms,) atomic numbers, carbon's for an unknown element: what a neutral atom scatters
        with.
        """
        return np.where(self.atomic_number == _UNKNOWN, _CARBON, self.atomic_number).astype(float)

    @property
    def electrons(self) -> NDArray[np.float64]:
        """(n_atoms,) electrons of each atom: its nuclear charge, none where the occupancy is
        zero.
        """
        return np.where(self.occupancy > 0, self.nuclear_charge, 0.0)

    def with_positions(self, positions_angstrom: NDArray[np.float64]) -> AtomicModel:
        """Return the same atoms at other positions, (n_atoms, 3) Å."""
        return replace(self, positions_angstrom=np.asarray(positions_angstrom, dtype=np.float64))

    def residue_label(self, residue: int) -> str:
        """Return a name to show, such as `A/LYS 52A`."""
        number = f"{self.residue_number[residue]}{self.insertion_code[residue]}"
        return f"{self.chain[residue]}/{self.residue_name[residue]} {number}"

    def select(self, atom_mask: NDArray[np.bool_]) -> AtomicModel:
        """Return the model of the atoms that are True in `atom_mask`, (n_atoms,); residues left
        empty go.

        A residue that loses its central atom is given the remaining atom nearest to it.
        """
        kept = np.flatnonzero(atom_mask)
        residues, residue_index = np.unique(self.residue_index[kept], return_inverse=True)
        positions = self.positions_angstrom[kept]
        distance = np.linalg.norm(
            positions - self.centres_angstrom[self.residue_index[kept]], axis=1
        )
        # Sorted by residue, then by distance: the first row of each residue is its atom nearest the
        # old centre.
        order = np.lexsort((distance, residue_index))
        first = np.searchsorted(residue_index[order], np.arange(len(residues)))
        return AtomicModel(
            positions_angstrom=positions,
            atomic_number=self.atomic_number[kept],
            atom_name=self.atom_name[kept],
            alt_loc=self.alt_loc[kept],
            residue_index=residue_index.astype(np.int64),
            b_factor=self.b_factor[kept],
            occupancy=self.occupancy[kept],
            residue_name=self.residue_name[residues],
            chain=self.chain[residues],
            insertion_code=self.insertion_code[residues],
            residue_number=self.residue_number[residues],
            residue_kind=self.residue_kind[residues],
            centre_atom=order[first].astype(np.int64),
        )


def read_model(path: str | Path) -> AtomicModel:
    """Read the first model of a PDB or mmCIF file, gzipped or not.

    Waters are dropped. Of alternative locations the one with the highest occupancy is kept, of
    residues that share a number the one with the highest occupancy. Modified residues, nucleotides,
    sugars, ligands, ions and hydrogens stay.

    Parameters
    ----------
    path
        File in either format; the content decides, not the suffix.

    Returns
    -------
    AtomicModel
        In the frame of the file.

    Raises
    ------
    InputError
        If the file cannot be read, or has no protein or nucleic residue.
    """
    return _read_first(Path(path), _read_structure(Path(path)))


def read_models(path: str | Path) -> tuple[AtomicModel, NDArray[np.float64]]:
    """Read every model of a file (an NMR ensemble, a trajectory).

    Returns
    -------
    model : AtomicModel
        The first model.
    positions : ndarray
        (n_models, n_atoms, 3) Å, atoms in the order of `model`.

    Raises
    ------
    InputError
        As `read_model`, and if a model has not the atoms of the first.
    """
    path = Path(path)
    structure = _read_structure(path)
    first = _read_first(path, structure)
    others = [_to_model(model) for model in list(structure)[1:]]
    positions = [first.positions_angstrom]
    positions += [
        match_atoms(first, other, f"{path} model {row}")
        for row, other in enumerate(others, start=2)
    ]
    return first, np.stack(positions)


def match_atoms(
    reference: AtomicModel, other: AtomicModel, source: str | Path
) -> NDArray[np.float64]:
    """Return the positions of `other` in the atom order of `reference`, (n_atoms, 3) Å.

    Atoms agree when chain, residue number, insertion code, residue name and atom name do; atoms
    that only `other` has are left out.

    Raises
    ------
    InputError
        Naming `source` and the first atom of `reference` that `other` lacks.
    """
    row_of = {key: row for row, key in enumerate(_atom_keys(other))}
    keys = _atom_keys(reference)
    missing = next((key for key in keys if key not in row_of), None)
    if missing is not None:
        chain, number, name, atom, _ = missing
        problem = f"lacks atom {atom} of {chain}/{name} {number} of the first structure"
        raise InputError(source, problem, "Give states with the same atoms")
    positions: NDArray[np.float64] = other.positions_angstrom[[row_of[key] for key in keys]]
    return positions


def write_model(
    path: str | Path,
    model: AtomicModel,
    positions: NDArray[np.float64] | None = None,
    b_factor: NDArray[np.float64] | None = None,
    title: str = "",
) -> None:
    """Write a model, or a series of models, atomically.

    Parameters
    ----------
    path
        `.cif`, `.mmcif`, `.pdb` or `.ent`, with or without `.gz`. In PDB files serial numbers
        beyond 99,999 and residue numbers beyond 9,999 are hybrid-36, as gemmi, PyMOL and ChimeraX
        read them.
    model
        Atoms to write.
    positions
        (n_atoms, 3) or (n_models, n_atoms, 3) Å in place of the model's own.
    b_factor
        (n_atoms,) or (n_models, n_atoms) in place of the model's own.
    title
        At most 70 ASCII characters; PDB files hold it in capitals.

    Raises
    ------
    InputError
        If the suffix is another one, or a PDB file cannot hold the model.
    """
    path = Path(path)
    stacked = (
        model.positions_angstrom if positions is None else np.asarray(positions, dtype=np.float64)
    )
    stacked = stacked.reshape(-1, model.n_atoms, 3)
    written = model.b_factor if b_factor is None else b_factor
    text = _format_text(path, model, stacked, np.broadcast_to(written, stacked.shape[:2]), title)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".gz":
            # No name and no time in the header: the same model gives the same bytes.
            temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            temporary.write_text(text, encoding="utf-8")


def _format_text(
    path: Path,
    model: AtomicModel,
    positions: NDArray[np.float64],
    b_factor: NDArray[np.float64],
    title: str,
) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix in _PDB_SUFFIXES:
        _require_pdb_holds(path, model, positions)
        structure = _to_structure(model, positions, b_factor)
        structure.shorten_ccd_codes()
        options = gemmi.PdbWriteOptions(minimal=True, cryst1_record=False)
        heading = f"TITLE     {title.upper():<70}\n" if title else ""
        return heading + structure.make_pdb_string(options)
    if suffix in _CIF_SUFFIXES:
        structure = _to_structure(model, positions, b_factor)
        if title:
            structure.info["_struct.title"] = title
        groups = gemmi.MmcifOutputGroups(True, auth_all=True, cell=False, symmetry=False)
        return structure.make_mmcif_document(groups).as_string()
    raise InputError(path, f"'{suffix}' is not a format for atomic models", "Use .cif or .pdb")


def _require_pdb_holds(path: Path, model: AtomicModel, positions: NDArray[np.float64]) -> None:
    low, high = _PDB_COORDINATE_RANGE_ANGSTROM
    remedy = "Write an mmCIF file (.cif)"
    too_long = next((name for name in np.unique(model.chain) if len(name) > 2), None)
    if too_long is not None:
        raise InputError(path, f"chain name '{too_long}' is too long for the PDB format", remedy)
    if positions.min() < low or positions.max() > high:
        raise InputError(path, "coordinates are too large for the PDB format", remedy)


def _read_structure(path: Path) -> gemmi.Structure:
    if not path.is_file():
        raise InputError(path, "there is no such file", "Check the path")
    if path.stat().st_size == 0:
        raise InputError(path, "is empty", "Give a PDB or mmCIF file of an atomic model")
    try:
        structure = gemmi.read_structure(str(path), format=gemmi.CoorFormat.Detect)
    except (RuntimeError, ValueError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            path, f"cannot be read as PDB or mmCIF ({reason})", "Give an atomic model"
        ) from error
    structure.restore_full_ccd_codes()
    return structure


def _read_first(path: Path, structure: gemmi.Structure) -> AtomicModel:
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(path, "holds no atoms", "Give a PDB or mmCIF file of an atomic model")
    model = _to_model(structure[0])
    if not np.isin(model.residue_kind, (PROTEIN, NUCLEIC)).any():
        raise InputError(
            path, "has no protein or nucleic residue", "Give a model with CA atoms or nucleotides"
        )
    if not np.isfinite(model.positions_angstrom).all():
        atom = int(np.argmin(np.isfinite(model.positions_angstrom).all(axis=1)))
        label = model.residue_label(int(model.residue_index[atom]))
        raise InputError(
            path,
            f"atom {model.atom_name[atom]} of {label} has no finite position",
            "Repair the file",
        )
    return model


def _to_model(source: gemmi.Model) -> AtomicModel:
    residues = [(chain, residue) for chain in source for residue in _distinct_residues(chain)]
    atoms = [one_conformer(residue) for _, residue in residues]
    kinds = [
        residue_kind(residue.name, held) for (_, residue), held in zip(residues, atoms, strict=True)
    ]
    counts = np.array([len(held) for held in atoms], dtype=np.int64)
    central = [central_atom(kind, held) for kind, held in zip(kinds, atoms, strict=True)]
    flat = [atom for held in atoms for atom in held]
    return AtomicModel(
        positions_angstrom=np.array([atom.pos.tolist() for atom in flat], dtype=np.float64).reshape(
            -1, 3
        ),
        atomic_number=np.array([atom.element.atomic_number for atom in flat], dtype=np.int64),
        atom_name=np.array([atom.name for atom in flat], dtype=np.str_),
        alt_loc=np.array([atom.altloc.strip("\0 ") for atom in flat], dtype=np.str_),
        residue_index=np.repeat(np.arange(len(counts)), counts),
        b_factor=np.array([atom.b_iso for atom in flat], dtype=np.float64),
        occupancy=np.array([atom.occ for atom in flat], dtype=np.float64),
        residue_name=np.array([residue.name for _, residue in residues], dtype=np.str_),
        chain=np.array([chain.name for chain, _ in residues], dtype=np.str_),
        insertion_code=np.array(
            [residue.seqid.icode.strip() for _, residue in residues], dtype=np.str_
        ),
        residue_number=np.array([residue.seqid.num for _, residue in residues], dtype=np.int64),
        residue_kind=np.array(kinds, dtype=np.str_),
        centre_atom=np.cumsum(counts) - counts + np.array(central, dtype=np.int64),
    )


def _distinct_residues(chain: gemmi.Chain) -> list[gemmi.Residue]:
    """Residues with atoms, without waters; of several with one number in a row (a point mutation)
    the most occupied.
    """
    chosen: list[gemmi.Residue] = []
    present = (residue for residue in chain if len(residue) and not residue.is_water())
    for _, alternatives in groupby(present, key=lambda residue: str(residue.seqid)):
        group = list(alternatives)
        shares_place = all(atom.has_altloc() for residue in group for atom in residue)
        best = max(group, key=lambda residue: float(np.mean([atom.occ for atom in residue])))
        chosen += [best] if shares_place else group
    return chosen


def _atom_keys(model: AtomicModel) -> list[tuple[str, str, str, str, int]]:
    """Chain, number with insertion code, residue, atom, and the how-manieth of that name (ions may
    share a number).
    """
    number = np.char.add(model.residue_number.astype(np.str_), model.insertion_code)
    seen: dict[tuple[str, str, str, str], int] = {}
    keys = []
    for atom, row in zip(model.atom_name.tolist(), model.residue_index.tolist(), strict=True):
        key = (str(model.chain[row]), str(number[row]), str(model.residue_name[row]), atom)
        seen[key] = seen.get(key, -1) + 1
        keys.append((*key, seen[key]))
    return keys


def _to_structure(
    model: AtomicModel, positions: NDArray[np.float64], b_factor: NDArray[np.float64]
) -> gemmi.Structure:
    structure = gemmi.Structure()
    structure.name = "model"
    for number, (places, b_of_atom) in enumerate(zip(positions, b_factor, strict=True), start=1):
        structure.add_model(
            _to_gemmi_model(replace(model, positions_angstrom=places, b_factor=b_of_atom), number)
        )
    structure.merge_chain_parts()
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure.assign_het_flags()
    return structure


def _to_gemmi_model(model: AtomicModel, number: int) -> gemmi.Model:
    result = gemmi.Model(number)
    first_atom = np.searchsorted(model.residue_index, np.arange(model.n_residues + 1))
    rows: Sequence[int] = range(model.n_residues)
    for name, members in groupby(rows, key=lambda row: str(model.chain[row])):
        chain = gemmi.Chain(name)
        for row in members:
            atoms = range(int(first_atom[row]), int(first_atom[row + 1]))
            chain.add_residue(_to_gemmi_residue(model, row, atoms))
        result.add_chain(chain)
    return result


def _to_gemmi_residue(model: AtomicModel, row: int, atoms: range) -> gemmi.Residue:
    residue = gemmi.Residue()
    residue.name = str(model.residue_name[row])
    residue.seqid = gemmi.SeqId(
        int(model.residue_number[row]), str(model.insertion_code[row]) or " "
    )
    for index in atoms:
        atom = gemmi.Atom()
        atom.name = str(model.atom_name[index])
        atom.element = gemmi.Element(int(model.atomic_number[index]))
        atom.pos = gemmi.Position(*model.positions_angstrom[index])
        atom.altloc = str(model.alt_loc[index]) or "\0"
        atom.occ = float(model.occupancy[index])
        atom.b_iso = float(model.b_factor[index])
        residue.add_atom(atom)
    return residue
