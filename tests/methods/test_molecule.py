"""What a run moves: pseudo-atoms in the form of atoms, and files that give it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere.io.structure import read_model
from kinesphere.methods.molecule import MODEL_FILE, PSEUDO_ATOM_FILE, Molecule, as_model
from kinesphere.motion.pseudo_atoms import PseudoAtoms

CENTRE = np.array([40.0, 50.0, 60.0])


@pytest.fixture
def atoms() -> PseudoAtoms:
    """Seven pseudo-atoms of two widths."""
    positions = 10.0 * torch.randn(7, 3)
    none = torch.zeros(0, 2, dtype=torch.int64)
    return PseudoAtoms(positions, torch.rand(2, 7), torch.tensor([2.0, 4.0]), none)


def test_pseudo_atoms_are_points_gaussians_and_atoms_in_one(atoms: PseudoAtoms) -> None:
    molecule = Molecule.of_pseudo_atoms(atoms, CENTRE)
    reference = molecule.reference
    for places in (reference.points, reference.beads, reference.atoms):
        torch.testing.assert_close(places, atoms.positions)
    for owner in (reference.bead_owner, reference.atom_owner):
        assert torch.equal(owner, torch.arange(7))
    np.testing.assert_allclose(
        molecule.model.positions_angstrom, atoms.positions.numpy() + CENTRE, atol=1e-5
    )
    assert reference.width_angstrom == (2.0, 4.0)


def test_a_pseudo_atom_is_a_residue_of_its_own_without_an_element() -> None:
    model = as_model(np.arange(9.0).reshape(3, 3))
    assert model.n_residues == model.n_atoms == 3
    assert model.atomic_number.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(model.centres_angstrom, model.positions_angstrom)
    assert model.residue_number.tolist() == [1, 2, 3]


def test_what_is_saved_is_what_was_moved(atoms: PseudoAtoms, tmp_path: Path) -> None:
    molecule = Molecule.of_pseudo_atoms(atoms, CENTRE)
    molecule.save(tmp_path)
    model = read_model(tmp_path / MODEL_FILE)
    np.testing.assert_allclose(
        model.positions_angstrom, molecule.model.positions_angstrom, atol=1e-3
    )
    stored = PseudoAtoms.load(tmp_path / PSEUDO_ATOM_FILE)
    for name in ("positions", "amplitude", "width_angstrom"):
        assert torch.equal(getattr(stored, name), getattr(atoms, name))


def test_an_atomic_model_leaves_no_pseudo_atoms(atoms: PseudoAtoms, tmp_path: Path) -> None:
    whole = Molecule.of_pseudo_atoms(atoms, CENTRE)
    Molecule(whole.model, whole.reference, CENTRE).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_FILE]
