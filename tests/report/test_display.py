"""What the viewer is given: secondary structure, thinned atoms and a basis that reproduces rigid
motion."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.io.structure import AtomicModel, read_model
from kinesphere.report.display import breaks_after, choose_atoms, fit_basis, secondary_structure


def test_helices_of_the_bundle_are_found(fake: ModuleType) -> None:
    code = secondary_structure(fake.helix_bundle())
    assert np.mean(code == "h") > 0.75
    assert not np.any(code == "s")


def test_adenylate_kinase_agrees_with_its_crystal_structure(
    shared_data: Callable[[str], Path],
) -> None:
    model = read_model(shared_data("adk") / "model.pdb")
    code = dict(
        zip(model.residue_number.tolist(), secondary_structure(model).tolist(), strict=True)
    )
    # HELIX and SHEET records of PDB 1AKE.
    assert (
        np.mean(
            [
                code[r] == "h"
                for r in (*range(14, 24), *range(62, 73), *range(161, 187), *range(203, 212))
            ]
        )
        > 0.85
    )
    assert np.mean([code[r] == "s" for r in (*range(2, 7), *range(81, 85), *range(105, 109))]) > 0.6
    assert np.mean([c == "h" for c in code.values()]) < 0.6


def test_breaks_are_at_gaps_and_chain_ends(fake: ModuleType) -> None:
    model = fake.helix_bundle()
    # The helices of the bundle are not joined by loops.
    assert np.flatnonzero(breaks_after(model)).tolist() == list(range(17, 144, 18))


def test_a_rotation_about_one_axis_needs_two_vectors() -> None:
    points = np.random.default_rng(0).normal(0, 15, (120, 3))
    rotation = Rotation.from_rotvec(
        np.linspace(-0.6, 0.7, 80)[:, None] * np.array([0.0, 0.6, 0.8])
    ).as_matrix()
    structures = points @ rotation.transpose(0, 2, 1)
    basis = fit_basis(structures)
    assert len(basis.vectors) == 2
    assert basis.rms_error(structures).max() < 1e-9


def test_coefficients_are_in_angstrom_rms() -> None:
    structures = np.zeros((50, 10, 3)) + np.linspace(-3, 3, 50)[:, None, None] * np.array(
        [0.0, 0.0, 1.0]
    )
    basis = fit_basis(structures)
    assert np.abs(basis.coefficients(structures)[[0, -1], 0]) == pytest.approx([3.0, 3.0])


def _large(model: AtomicModel, copies: int) -> AtomicModel:
    """Repeat a model of one atom a residue."""
    n = model.n_residues * copies
    offset = np.repeat(np.arange(copies) * 200.0, model.n_residues)
    one_each = model.select(np.isin(np.arange(model.n_atoms), model.centre_atom))
    atoms = ("atomic_number", "atom_name", "alt_loc", "b_factor", "occupancy")
    residues = ("residue_name", "chain", "insertion_code", "residue_number", "residue_kind")
    repeated = {name: np.tile(getattr(one_each, name), copies) for name in (*atoms, *residues)}
    places = np.tile(one_each.positions_angstrom, (copies, 1)) + offset[:, None] * np.array(
        [1.0, 0.0, 0.0]
    )
    return replace(
        one_each,
        positions_angstrom=places,
        residue_index=np.arange(n),
        centre_atom=np.arange(n),
        **repeated,
    )


def test_a_large_model_is_thinned_to_a_trace(run: Any) -> None:
    model = _large(run.model, 90)
    atoms = choose_atoms(replace(run, model=model))
    assert atoms.trace
    assert len(atoms.points) <= 3000
    assert atoms.stride == 5


def test_ribbons_are_drawn_through_ca_and_o(run: Any) -> None:
    atoms = choose_atoms(run)
    assert not atoms.trace
    assert set(atoms.name.tolist()) == {"CA", "O"}
