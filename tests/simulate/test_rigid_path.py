"""Domains move along screws: rigidly, on arcs, and without stretching."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from helpers.simulated import residue_centres, rows_between
from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase
from kinesphere.simulate.rigid_path import Screw


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(11)


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


def test_domains_move_rigidly_and_monotonously(kinase: Ensemble) -> None:
    centres = residue_centres(kinase)
    model = kinase.model
    lid, nmp, core = (
        rows_between(model, 125, 156),
        rows_between(model, 33, 56),
        rows_between(model, 62, 119),
    )
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
