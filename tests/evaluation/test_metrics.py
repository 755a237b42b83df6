"""Scores of arrays with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import pearsonr, spearmanr

from kinesphere.evaluation.embedding import (
    explained_variance,
    information_imbalance,
    neighbourhood_similarity,
)
from kinesphere.evaluation.metrics import (
    MainMotion,
    coverage,
    nearest_state,
    pearson,
    rmsd,
    spearman,
    superposed_rmsd,
)

rng = np.random.default_rng(5)
STRUCTURES = rng.normal(0.0, 15.0, (6, 40, 3))


def test_a_shift_of_one_angstrom_is_an_rmsd_of_one() -> None:
    shift = np.array([2.0, -1.0, 2.0]) / 3.0
    assert rmsd(STRUCTURES + shift, STRUCTURES) == pytest.approx(np.ones(6))
    assert superposed_rmsd(STRUCTURES + shift, STRUCTURES) == pytest.approx(np.zeros(6), abs=1e-6)


def test_half_of_the_residues_two_angstrom_away_is_root_two() -> None:
    moved = STRUCTURES.copy()
    moved[:, ::2, 1] += 2.0
    assert rmsd(moved, STRUCTURES) == pytest.approx(np.full(6, np.sqrt(2.0)))


def test_superposed_rmsd_agrees_with_scipy() -> None:
    other = (
        Rotation.random(random_state=3).apply(STRUCTURES[0] + rng.normal(0.0, 2.0, (40, 3))) + 4.0
    )
    centred = other - other.mean(0), STRUCTURES[0] - STRUCTURES[0].mean(0)
    _, root_sum_square = Rotation.align_vectors(*centred)
    assert superposed_rmsd(other[None], STRUCTURES[:1])[0] == pytest.approx(
        root_sum_square / np.sqrt(40)
    )


def test_a_mirror_image_does_not_superpose() -> None:
    mirrored = STRUCTURES[:1] * [1.0, 1.0, -1.0]
    _, root_sum_square = Rotation.align_vectors(
        *(x[0] - x[0].mean(0) for x in (mirrored, STRUCTURES[:1]))
    )
    assert superposed_rmsd(mirrored, STRUCTURES[:1])[0] == pytest.approx(
        root_sum_square / np.sqrt(40)
    )
    assert superposed_rmsd(mirrored, STRUCTURES[:1])[0] > 5.0


def test_correlations_agree_with_scipy_and_are_undefined_for_constants() -> None:
    first = rng.integers(0, 9, 200).astype(float)
    second = first**3 + rng.normal(0.0, 50.0, 200)
    assert pearson(first, second) == pytest.approx(pearsonr(first, second).statistic)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert np.isnan(pearson(first, np.full(200, 0.1)))
    assert np.isnan(pearson(np.zeros(200), first))
    assert pearson(1e-9 * first, second) == pytest.approx(pearson(first, second))


def test_main_motion_is_the_direction_the_states_differ_along() -> None:
    direction = rng.normal(0.0, 1.0, (40, 3))
    direction /= np.sqrt((direction**2).sum() / 40)  # 1 Å RMS
    place = np.array([-3.0, -1.0, 0.0, 1.5, 4.0])
    states = STRUCTURES[0] + place[:, None, None] * direction + rng.normal(0.0, 0.05, (5, 40, 3))
    motion = MainMotion.of_states(states)
    found = motion.project(STRUCTURES[0] + np.array([-2.0, 0.0, 2.0])[:, None, None] * direction)
    assert abs(found[2] - found[0]) == pytest.approx(4.0, rel=0.01)
    across = rng.normal(0.0, 1.0, (40, 3))
    across -= (across * direction).sum() / 40 * direction
    there, here = motion.project(np.stack([STRUCTURES[0] + across, STRUCTURES[0]]))
    assert there == pytest.approx(here, abs=0.05)


@pytest.mark.parametrize("n_states", [1, 3])
def test_nothing_that_moves_is_no_motion(n_states: int) -> None:
    motion = MainMotion.of_states(np.repeat(STRUCTURES[:1], n_states, axis=0))
    assert not motion.mode.any()
    assert not motion.project(STRUCTURES).any()


def test_nearest_state_is_found_through_noise() -> None:
    number = np.array([5, 0, 3, 3, 1])
    assert (
        nearest_state(STRUCTURES[number] + rng.normal(0.0, 1.0, (5, 40, 3)), STRUCTURES).tolist()
        == number.tolist()
    )


def test_coverage_of_a_calibrated_and_of_an_overconfident_posterior() -> None:
    truth = rng.normal(0.0, 1.0, 4000)
    centre = truth + rng.normal(0.0, 1.0, 4000)
    for std, at_68, at_95 in ((1.0, 0.68, 0.95), (0.5, 0.38, 0.68), (2.0, 0.954, 1.0)):
        error = np.full(4000, std)
        assert coverage(centre, error, truth, 0.68) == pytest.approx(at_68, abs=0.025)
        assert coverage(centre, error, truth, 0.95) == pytest.approx(at_95, abs=0.025)


def test_a_curled_latent_space_explains_the_coordinate_and_noise_does_not() -> None:
    coordinate = rng.random(600)
    spiral = (1.0 + 2.0 * coordinate)[:, None] * np.stack(
        [np.cos(9.0 * coordinate), np.sin(9.0 * coordinate)], axis=1
    )
    noise = rng.normal(0.0, 1.0, (600, 2))
    assert explained_variance(spiral, coordinate) > 0.99
    assert abs(explained_variance(noise, coordinate)) < 0.15
    assert neighbourhood_similarity(spiral, coordinate[:, None]) > 0.9
    assert neighbourhood_similarity(noise, coordinate[:, None]) == pytest.approx(0.1, abs=0.02)
    assert max(information_imbalance(spiral, coordinate[:, None])) < 0.02
    assert min(information_imbalance(noise, coordinate[:, None])) > 0.9


def test_latents_that_know_more_than_the_coordinate_are_told_from_those_that_know_less() -> None:
    both = rng.random((600, 2))
    towards, back = information_imbalance(both, both[:, :1])
    assert towards < 0.1
    assert back > 0.5


def test_images_of_one_state_share_its_place_in_a_neighbourhood() -> None:
    coordinate = np.repeat(np.linspace(0.0, 1.0, 5), 40)[:, None]
    assert neighbourhood_similarity(coordinate, coordinate) == pytest.approx(19.9 / 39, abs=0.02)
    assert np.isnan(explained_variance(coordinate, np.zeros(200)))
    assert np.isnan(explained_variance(coordinate[:10], rng.random(10)))
