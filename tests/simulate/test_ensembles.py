"""Ensembles move what they should, as far as they should, and nothing breaks on the way."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel, write_model
from kinesphere.simulate.ensembles import (
    OPEN_FILE,
    Ensemble,
    _bundled,
    adenylate_kinase,
    ensemble_from_files,
    ensemble_from_hinges,
)
from kinesphere.simulate.hinges import parse_hinge
from kinesphere.simulate.rigid_path import Screw


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(11)


def _centres(ensemble: Ensemble) -> np.ndarray:
    return ensemble.positions[:, ensemble.model.centre_atom]


def _rows(model: AtomicModel, first: int, last: int) -> np.ndarray:
    return np.flatnonzero((model.residue_number >= first) & (model.residue_number <= last))


def test_bundled_structures_are_adenylate_kinase(kinase: Ensemble) -> None:
    sequence = gemmi.one_letter_code(kinase.model.residue_name.tolist())
    assert sequence.startswith("MRIILLGAPGAGKGTQAQFI")
    assert sequence.endswith("VRADLEKILG")
    assert len(sequence) == 214
    assert gemmi.one_letter_code(_bundled(OPEN_FILE).residue_name.tolist()) == sequence
    assert kinase.model.n_atoms == 1656


def test_path_begins_closed_and_ends_open(kinase: Ensemble) -> None:
    centres = _centres(kinase)
    assert np.allclose(kinase.positions[0], kinase.model.positions_angstrom)
    opened = _bundled(OPEN_FILE)
    target = opened.positions_angstrom[opened.centre_atom]
    assert np.allclose(
        Screw.superposing(target, centres[-1]).apply(target, 1.0), centres[-1], atol=1e-6
    )
    whole = Screw.superposing(target, centres[-1]).apply(opened.positions_angstrom, 1.0)
    assert np.allclose(whole, kinase.positions[-1], atol=1e-6)
    # 7.1 Å is the CA RMSD of 1AKE and 4AKE after their best superposition (Müller et al. 1996).
    superposed = Screw.superposing(centres[-1], centres[0]).apply(centres[-1], 1.0)
    assert np.sqrt(((superposed - centres[0]) ** 2).sum(axis=1).mean()) == pytest.approx(
        7.1, abs=0.1
    )


def test_domains_move_rigidly_and_monotonously(kinase: Ensemble) -> None:
    centres, model = _centres(kinase), kinase.model
    lid, nmp, core = _rows(model, 125, 156), _rows(model, 33, 56), _rows(model, 62, 119)
    for domain in (lid, nmp, core):
        shapes = np.array([pdist(state[domain]) for state in centres])
        # Between two shapes that differ a little lies nothing that differs more.
        low, high = np.minimum(shapes[0], shapes[-1]), np.maximum(shapes[0], shapes[-1])
        assert (shapes > low - 0.5).all()
        assert (shapes < high + 0.5).all()
    for domain, opening_angstrom in ((lid, 4), (nmp, 1.5)):
        distance = np.linalg.norm(
            centres[:, domain].mean(axis=1) - centres[:, core].mean(axis=1), axis=-1
        )
        assert (np.diff(distance) > 0).all()
        assert distance[-1] - distance[0] > opening_angstrom


def test_no_bond_breaks_and_no_atoms_meet(kinase: Ensemble) -> None:
    positions = kinase.positions
    bonds = cKDTree(positions[0]).query_pairs(1.95, output_type="ndarray")
    length = np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=-1)
    low, high = np.minimum(length[0], length[-1]), np.maximum(length[0], length[-1])
    assert (length > low - 0.1).all()
    assert (length < high + 0.1).all()
    bonded = {tuple(pair) for pair in bonds.tolist()}
    around_one_atom = cKDTree(positions[0]).query_pairs(2.75)
    for state in positions:
        contacts = cKDTree(state).query_pairs(1.8) - bonded - around_one_atom
        assert not contacts


def test_screw_goes_along_an_arc() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    turn = Rotation.from_rotvec([0, 0, np.pi / 2])
    centre, lift = np.array([5.0, 0, 0]), np.array([0, 0, 2.0])
    moved = turn.apply(points - centre) + centre + lift
    screw = Screw.superposing(points, moved)
    assert np.allclose(screw.apply(points, 1.0), moved)
    half = Rotation.from_rotvec([0, 0, np.pi / 4]).apply(points - centre) + centre + lift / 2
    assert np.allclose(screw.apply(points, 0.5), half)


def test_pure_translation_needs_no_axis() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    screw = Screw.superposing(points, points + np.array([1.0, -2, 3]))
    assert np.allclose(screw.apply(points, 0.25), points + np.array([0.25, -0.5, 0.75]))


def test_hinge_turns_by_the_angle_and_opens(kinase: Ensemble) -> None:
    model = kinase.model
    ensemble = ensemble_from_hinges(model, [parse_hinge("A:122-159/A:122/0/30", model)], 4)
    centres = _centres(ensemble)
    lid, rest = _rows(model, 122, 159), np.setdiff1d(np.arange(214), _rows(model, 122, 159))
    assert np.allclose(ensemble.positions[0], model.positions_angstrom)
    assert np.array_equal(centres[-1][rest], centres[0][rest])
    angle = np.rad2deg(
        np.linalg.norm(Screw.superposing(centres[0][lid], centres[-1][lid]).rotation_vector)
    )
    assert angle == pytest.approx(30)
    assert np.allclose(centres[:, lid[0]], centres[0, lid[0]])  # the pivot stays
    distance = np.linalg.norm(centres[:, lid].mean(axis=1) - centres[:, rest].mean(axis=1), axis=-1)
    assert (np.diff(distance) > 0).all()


def test_two_hinges_make_a_grid_of_independent_motions(kinase: Ensemble) -> None:
    model = kinase.model
    hinges = [parse_hinge(text, model) for text in ("A:122-159/A:122/-10/40", "A:30-59/A:30/0/20")]
    ensemble = ensemble_from_hinges(model, hinges, 3)
    assert ensemble.coordinate.shape == (9, 2)
    same_lid = ensemble.coordinate[:, 0] == 0.5
    lid, nmp = _rows(model, 122, 159), _rows(model, 30, 59)
    assert np.ptp(_centres(ensemble)[same_lid][:, lid], axis=0).max() == 0
    assert np.ptp(_centres(ensemble)[same_lid][:, nmp], axis=0).max() > 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A:122-159", "cannot be read"),
        ("A:122-159/A:122/x/40", "cannot be read"),
        ("A:922-999/A:122/0/40", "no residues 'A:922-999'"),
        ("Z/A:122/0/40", "no residues 'Z'"),
        ("A/A:122/0/40", "moves 214 of 214"),
        ("A:1-5/A:1-2/0/40", "2 residues as pivot"),
    ],
)
def test_hinges_that_cannot_be_meant(kinase: Ensemble, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_hinge(text, kinase.model)


def test_states_from_several_files_and_models(kinase: Ensemble, tmp_path: Path) -> None:
    write_model(tmp_path / "series.cif", kinase.model, kinase.positions[:3])
    write_model(tmp_path / "last.pdb", kinase.model, kinase.positions[-1])
    ensemble = ensemble_from_files([tmp_path / "series.cif", tmp_path / "last.pdb"])
    assert np.allclose(ensemble.coordinate[:, 0], [0, 1 / 3, 2 / 3, 1])
    assert np.allclose(ensemble.positions, kinase.positions[[0, 1, 2, -1]], atol=0.001)


def test_centred_ensemble_has_its_residues_around_zero(kinase: Ensemble) -> None:
    assert np.allclose(_centres(kinase.centred()).mean(axis=(0, 1)), 0)
