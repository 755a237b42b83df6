"""The best straight direction of the latent space, on latents of known geometry."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.evaluation.embedding import along_best_direction
from kinesphere.evaluation.metrics import pearson, spearman


def test_the_direction_is_found_whatever_the_axes_and_scales() -> None:
    rng = np.random.default_rng(0)
    coordinate = rng.random(400)
    other = rng.normal(size=(400, 2)) * [1.0, 20.0]
    mixed = np.column_stack([coordinate, other]) @ rng.normal(size=(3, 3))
    assert pearson(along_best_direction(mixed, coordinate), coordinate) == pytest.approx(
        1.0, abs=1e-6
    )
    assert spearman(along_best_direction(-mixed, coordinate), coordinate) == pytest.approx(
        1.0, abs=1e-6
    )


def test_the_noise_of_a_latent_bounds_its_correlation() -> None:
    rng = np.random.default_rng(1)
    coordinate = rng.normal(size=5000)
    latents = np.column_stack([coordinate + rng.normal(size=5000), rng.normal(size=5000)])
    assert pearson(along_best_direction(latents, coordinate), coordinate) == pytest.approx(
        np.sqrt(0.5), abs=0.03
    )


def test_latents_that_know_nothing_get_nothing_for_having_many_dimensions() -> None:
    rng = np.random.default_rng(2)
    assert (
        abs(
            pearson(
                along_best_direction(rng.normal(size=(300, 30)), rng.random(300)), rng.random(300)
            )
        )
        < 0.2
    )
