"""Hinges as a user writes them: what turns, about what, by how much."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.simulated import residue_centres, rows_between
from kinesphere.errors import InputError
from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase, ensemble_from_hinges
from kinesphere.simulate.hinges import parse_hinge
from kinesphere.simulate.rigid_path import Screw


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(5)


def test_hinge_turns_by_the_angle_and_opens(kinase: Ensemble) -> None:
    model = kinase.model
    ensemble = ensemble_from_hinges(model, [parse_hinge("A:122-159/A:122/0/30", model)], 4)
    centres = residue_centres(ensemble)
    lid, rest = (
        rows_between(model, 122, 159),
        np.setdiff1d(np.arange(214), rows_between(model, 122, 159)),
    )
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
    lid, nmp = rows_between(model, 122, 159), rows_between(model, 30, 59)
    assert np.ptp(residue_centres(ensemble)[same_lid][:, lid], axis=0).max() == 0
    assert np.ptp(residue_centres(ensemble)[same_lid][:, nmp], axis=0).max() > 5


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
