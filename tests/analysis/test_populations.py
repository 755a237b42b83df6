"""Populations seen through noise that is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.populations import deconvolve
from kinesphere.runs.finished_run import LatentTable

TRUE_SHARE, PLACES, WIDTH, NOISE = 0.7, (-1.0, 1.0), 0.2, 0.7


def posteriors(fake: Any, n: int = 3000, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Two narrow modes of the first latent, each image seen with noise, under the prior N(0, I);
    and the truth."""
    draw = np.random.default_rng(seed)
    truth = np.zeros((n, 2))
    truth[:, 0] = np.where(draw.random(n) < TRUE_SHARE, *PLACES) + WIDTH * draw.standard_normal(n)
    seen = truth + NOISE * draw.standard_normal((n, 2))
    precision = 1.0 + 1.0 / NOISE**2
    mean = seen / NOISE**2 / precision
    covariance = np.tile(np.eye(2) / precision, (n, 1, 1))
    return LatentTable(np.arange(n), mean, covariance, np.zeros(n, int)), truth


def test_the_valley_between_two_modes_is_found_again(fake: Any) -> None:
    latents, truth = posteriors(fake)
    population = deconvolve(latents)
    edges = np.array([-9.0, -0.4, 0.4, 9.0])
    value, low, high = population.histogram(population.nodes[:, 0], edges)
    true = np.histogram(truth[:, 0], edges)[0] / len(truth)
    counted = np.histogram(latents.mean[:, 0], edges)[0] / len(truth)
    assert true[1] < 0.01
    assert counted[1] > 0.2  # what noise makes of it
    assert value[1] < 0.85 * counted[1]
    assert np.abs(value - true).sum() < 0.85 * np.abs(counted - true).sum()
    assert ((low <= value) & (value <= high)).all()


def test_the_split_is_right_and_its_interval_holds_the_truth(fake: Any) -> None:
    covered = 0
    for seed in range(6):
        latents, truth = posteriors(fake, 800, seed)
        population = deconvolve(latents, seed)
        fraction = population.fraction(
            population.nodes[:, 0] < 0, float(np.mean(latents.mean[:, 0] < 0))
        )
        assert fraction.value == pytest.approx(np.mean(truth[:, 0] < 0), abs=0.06)
        assert 0.01 < fraction.high - fraction.low < 0.12
        covered += fraction.low <= TRUE_SHARE <= fraction.high
    assert covered >= 4  # nominally 5.4; fewer happen once in sixty


def test_weights_add_up_over_half_sets_of_unequal_size(fake: Any) -> None:
    latents, _ = posteriors(fake, 900)
    halves = LatentTable(
        latents.index, latents.mean, latents.covariance, np.where(np.arange(900) < 600, 1, 2)
    )
    population = deconvolve(halves, n_resampled=3)
    assert population.weight[population.half == 1].sum() == pytest.approx(2 / 3)
    assert population.weight.sum() == pytest.approx(1.0)
    assert population.resampled.sum(axis=1) == pytest.approx(np.ones(3))


def test_what_is_known_exactly_is_counted(fake: Any) -> None:
    draw = np.random.default_rng(3)
    mean = np.where(draw.random(500) < 0.25, -1.0, 1.0)[:, None] + 0.01 * draw.standard_normal(
        (500, 1)
    )
    latents = LatentTable(np.arange(500), mean, np.full((500, 1, 1), 1e-4), np.zeros(500, int))
    population = deconvolve(latents, n_resampled=5)
    assert population.weight[population.nodes[:, 0] < 0].sum() == pytest.approx(
        np.mean(mean < 0), abs=1e-3
    )
