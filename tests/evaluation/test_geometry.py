"""Chains with outliers made by hand, against distances and angles worked out one by one; and the
hinge of a chain that turns in two rigid pieces.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.evaluation.geometry import boundary_distances, geometry_scores
from kinesphere.simulate.ensembles import Ensemble


def brute_force(points: np.ndarray) -> tuple[float, float]:
    """Count outliers of one unbroken chain in a loop."""
    bonds = angles = 0
    for i in range(len(points) - 1):
        length = np.sqrt(((points[i + 1] - points[i]) ** 2).sum())
        bonds += not (3.4 <= length <= 4.2 or 2.55 <= length <= 3.35)
    for i in range(len(points) - 2):
        a, b = points[i] - points[i + 1], points[i + 2] - points[i + 1]
        degrees = np.degrees(np.arccos(a @ b / np.sqrt((a @ a) * (b @ b))))
        angles += not 75.0 <= degrees <= 155.0
    return bonds / (len(points) - 1), angles / (len(points) - 2)


def test_outliers_are_those_of_a_loop_over_the_chain(ensemble: Ensemble) -> None:
    model = ensemble.model.select(
        ensemble.model.residue_kind[ensemble.model.residue_index] == "protein"
    )
    centres = model.centres_angstrom
    jittered = centres + 0.4 * np.random.default_rng(0).standard_normal((2, *centres.shape))
    scores = geometry_scores(model, jittered)
    expected = np.mean([brute_force(points) for points in jittered], axis=0)
    assert scores["bond_outliers"] == pytest.approx(expected[0], abs=1e-9)
    assert scores["angle_outliers"] == pytest.approx(expected[1], abs=1e-9)
    assert scores["bond_outliers"] > 0.1
    of_model = brute_force(centres)
    assert scores["bond_outliers_model"] == pytest.approx(of_model[0], abs=1e-9)
    assert scores["angle_outliers_model"] == pytest.approx(of_model[1], abs=1e-9)


def test_one_residue_out_of_place_breaks_two_bonds(ensemble: Ensemble) -> None:
    model = ensemble.model
    moved = model.centres_angstrom[None].copy()
    moved[0, 100] += 20.0
    scores = geometry_scores(model, moved)
    n_bonds = 213
    assert scores["bond_outliers"] - scores["bond_outliers_model"] == pytest.approx(
        2 / n_bonds, abs=1e-9
    )


@pytest.fixture
def turning(ensemble: Ensemble) -> np.ndarray:
    """Residues from 100 on turn about residue 100 by up to 40 degrees."""
    centres = ensemble.model.centres_angstrom
    structures = np.repeat(centres[None], 12, axis=0)
    pivot = centres[99]
    for image, angle in enumerate(np.linspace(-20.0, 20.0, 12)):
        turn = Rotation.from_rotvec([0.0, 0.0, angle], degrees=True)
        structures[image, 99:] = turn.apply(centres[99:] - pivot) + pivot
    return structures


def test_the_boundary_that_cuts_the_motion_is_the_main_one(
    ensemble: Ensemble, turning: np.ndarray
) -> None:
    segment = np.digitize(
        np.arange(ensemble.model.n_residues), [40, 97, 150]
    )  # boundaries after 40, 97 and 150
    found = boundary_distances(ensemble.model, "A:100", segment, turning)
    assert (found.nearest, found.main) == (2.0, 2.0)
    far = boundary_distances(ensemble.model, "A:152", segment, turning)
    assert (far.nearest, far.main) == (1.0, 54.0)


def test_one_segment_has_no_boundary(ensemble: Ensemble, turning: np.ndarray) -> None:
    found = boundary_distances(
        ensemble.model, "A:100", np.zeros(ensemble.model.n_residues, int), turning
    )
    assert found.nearest == found.main == np.inf


@pytest.mark.parametrize("hinge", ["A:1-5", "B:7", "?", "A"])
def test_a_hinge_is_one_residue(hinge: str, ensemble: Ensemble, turning: np.ndarray) -> None:
    with pytest.raises(InputError, match="--hinge: .*Name one residue, as in B:226"):
        boundary_distances(ensemble.model, hinge, np.zeros(ensemble.model.n_residues, int), turning)
