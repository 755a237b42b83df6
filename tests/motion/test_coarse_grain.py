"""Coarse-graining: the paper's groups of atoms, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere.io.structure import AtomicModel, read_model
from kinesphere.motion.coarse_grain import coarse_grain

ATOMS = {
    "GLY": "N CA C O",
    "ALA": "N CA C O CB",
    "PRO": "N CA C O CB CG CD",
    "LYS": "N CA C O CB CG CD CE NZ",
    "TYR": "N CA C O CB CG CD1 CD2 CE1 CE2 CZ OH",
    "TRP": "N CA C O CB CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2",
}
NUCLEOTIDE = "P OP1 OP2 O5' C5' C4' O4' C3' O3' C2' C1' N9 C8 N7 C5 C6 N6 N1 C2 N3 C4"
ORIGIN = np.zeros(3)


def chain(tmp_path: Path, *names: str) -> AtomicModel:
    """Write residues 3.8 Å apart along x, their atoms at random about them, and read the file."""
    draw, lines = np.random.default_rng(0), []
    for number, name in enumerate(names, start=1):
        for atom in ATOMS.get(name, NUCLEOTIDE).split():
            x, y, z = draw.normal(0, 0.8, 3) + np.array([3.8 * number, 0, 0])
            label = f" {atom:<3}" if len(atom) < 4 else atom
            lines.append(
                f"ATOM  {len(lines) + 1:5d} {label} {name:>3} A{number:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00          {atom[0]:>2}\n"
            )
    (tmp_path / "chain.pdb").write_text("".join(lines) + "END\n")
    return read_model(tmp_path / "chain.pdb")


@pytest.mark.parametrize(
    ("name", "groups"),
    [("GLY", 1), ("ALA", 2), ("PRO", 2), ("LYS", 3), ("TYR", 4), ("TRP", 4), ("A", 4)],
)
def test_number_of_groups_and_their_bonds_within_a_residue(
    tmp_path: Path, name: str, groups: int
) -> None:
    atoms = coarse_grain(chain(tmp_path, name), ORIGIN, "chain.pdb")
    assert len(atoms.positions) == groups
    assert atoms.edges.tolist() == [[k, k + 1] for k in range(groups - 1)]


def test_main_chain_is_at_the_barycentre_of_n_c_and_o(tmp_path: Path) -> None:
    model = chain(tmp_path, "LYS", "TYR")
    atoms = coarse_grain(model, ORIGIN, "chain.pdb")
    for first, residue in ((0, 0), (3, 1)):
        rows = [
            row
            for row in range(model.n_atoms)
            if model.residue_index[row] == residue and model.atom_name[row] in {"N", "C", "O"}
        ]
        assert atoms.positions[first].numpy() == pytest.approx(
            model.positions_angstrom[rows].mean(0), abs=1e-4
        )


def test_amplitudes_are_electrons_and_none_is_lost(tmp_path: Path) -> None:
    model = chain(tmp_path, "LYS", "GLY", "TRP", "ALA")
    atoms = coarse_grain(model, ORIGIN, "chain.pdb", n_classes=2)
    assert atoms.amplitude.sum() == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(atoms.amplitude[0], atoms.amplitude[1])
    electrons = 2.0 * atoms.amplitude[0] * float(model.atomic_number.sum())
    assert electrons[0].item() == pytest.approx(7 + 6 + 8, abs=0.01)  # N, C and O of LYS 1
    assert electrons[2].item() == pytest.approx(6 + 6 + 7, abs=0.01)  # Cδ, Cε and Nζ


def test_main_chain_goes_on_and_stops_at_a_gap(tmp_path: Path) -> None:
    model = chain(tmp_path, "ALA", "LYS", "ALA")
    atoms = coarse_grain(model, ORIGIN, "chain.pdb")
    edges = {tuple(edge) for edge in atoms.edges.tolist()}
    assert {(0, 2), (2, 5)} <= edges
    far = model.positions_angstrom + np.where(model.residue_index == 2, 30.0, 0.0)[:, None]
    broken = coarse_grain(model.with_positions(far), ORIGIN, "chain.pdb")
    assert (2, 5) not in {tuple(edge) for edge in broken.edges.tolist()}


def test_positions_are_relative_to_the_centre_of_the_box(tmp_path: Path) -> None:
    model, centre = chain(tmp_path, "ALA"), np.array([10.0, 20.0, 30.0])
    moved = coarse_grain(model, centre, "chain.pdb").positions.numpy() + centre
    assert moved == pytest.approx(
        coarse_grain(model, ORIGIN, "chain.pdb").positions.numpy(), abs=1e-4
    )
