"""Distances between groups of residues: read as a user writes them, measured between centroids."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.evaluation.distances import distance_scores, measure_all, parse_distance
from kinesphere.io.structure import AtomicModel
from kinesphere.simulate.ensembles import Ensemble


@pytest.fixture
def model(ensemble: Ensemble) -> AtomicModel:
    """Adenylate kinase, one chain."""
    return ensemble.model


def test_the_distance_is_that_of_the_centroids(model: AtomicModel) -> None:
    rows = np.arange(model.n_residues)
    distance = parse_distance("A:122-159/A:1-29,A:60-121", model, rows)
    assert len(distance.first) == 38
    assert len(distance.second) == 29 + 62
    centres = model.centres_angstrom[None]
    expected = np.linalg.norm(
        centres[0, distance.first].mean(axis=0) - centres[0, distance.second].mean(axis=0)
    )
    assert measure_all([distance], centres)[0, 0] == pytest.approx(expected)


def test_groups_are_counted_among_the_shared_residues(model: AtomicModel) -> None:
    rows = np.arange(10, model.n_residues)
    distance = parse_distance("A:1-29/A:122-159", model, rows)
    number = model.residue_number[rows[distance.first]]
    assert number.min() == model.residue_number[10]
    assert number.max() == 29


@pytest.mark.parametrize("text", ["A:1-29", "A:1/A:2/A:3", "A:1-29/Z"])
def test_other_forms_are_refused(model: AtomicModel, text: str) -> None:
    with pytest.raises(InputError, match="--distance"):
        parse_distance(text, model, np.arange(model.n_residues))


def test_scores_of_a_distance_that_is_off_by_a_constant() -> None:
    true = np.linspace(10.0, 30.0, 50)[:, None]
    (scores,) = distance_scores(true + 2.0, true)
    assert scores["r"] == pytest.approx(1.0)
    assert scores["amplitude"] == pytest.approx(1.0)
    assert scores["rms_error_angstrom"] == pytest.approx(2.0)
