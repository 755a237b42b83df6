"""Chains with outliers made by hand, against distances and angles worked out one by one."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.evaluation.geometry import geometry_scores
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
