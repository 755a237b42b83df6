"""The best straight direction and the best smooth function of a latent space of known geometry;
latents that follow the view, the defocus, or neither.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.evaluation.embedding import (
    FEWEST_IMAGES,
    along_best_direction,
    along_smooth_function,
    leakage_scores,
)
from kinesphere.evaluation.metrics import pearson, spearman

N = 300


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


@pytest.mark.parametrize(
    "follow",
    [lambda z: np.sin(2.0 * z[:, 0]), lambda z: z[:, 0] * z[:, 1], lambda z: z[:, 2] ** 2],
    ids=["sine", "product", "square"],
)
def test_a_curve_is_followed_up_to_the_noise(follow: Callable[[np.ndarray], np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    latents = rng.normal(size=(1500, 4))
    exact = follow(latents)
    coordinate = exact + 0.75 * exact.std() * rng.normal(size=1500)
    limit = pearson(exact, coordinate)
    units = [1.0, 100.0, 0.01, 1.0]
    smooth = pearson(along_smooth_function(latents * units + 5.0, coordinate), coordinate)
    assert smooth == pytest.approx(limit, abs=0.02)
    assert pearson(along_best_direction(latents, coordinate), coordinate) < 0.5 * limit


@pytest.mark.parametrize("correlation", [0.3, 0.8])
def test_where_the_latents_follow_straight_nothing_is_lost_by_looking_for_curves(
    correlation: float,
) -> None:
    rng = np.random.default_rng(4)
    latents = rng.normal(size=(3000, 4))
    noise = np.sqrt(1.0 / correlation**2 - 1.0)
    coordinate = latents @ [0.5, -0.5, 0.5, 0.5] + noise * rng.normal(size=3000)
    straight = pearson(along_best_direction(latents, coordinate), coordinate)
    assert straight == pytest.approx(correlation, abs=0.03)
    assert pearson(along_smooth_function(latents, coordinate), coordinate) > straight - 0.01


@pytest.mark.parametrize(("n", "d"), [(3000, 4), (300, 8)])
def test_no_smooth_function_of_noise_follows_anything(n: int, d: int) -> None:
    rng = np.random.default_rng(5)
    latents, coordinate = rng.normal(size=(n, d)), rng.normal(size=n)
    smooth = along_smooth_function(latents, coordinate)
    assert abs(pearson(smooth, coordinate)) < 3.0 / np.sqrt(n)


def test_a_smooth_function_is_the_same_every_time_and_whatever_dimension_is_unused() -> None:
    rng = np.random.default_rng(6)
    latents = rng.normal(size=(200, 2))
    coordinate = np.sin(latents[:, 0]) + 0.1 * rng.normal(size=200)
    smooth = along_smooth_function(latents, coordinate)
    unused = np.column_stack([np.zeros(200), latents, np.full(200, 0.1)])
    assert (along_smooth_function(latents, coordinate) == smooth).all()
    assert (along_smooth_function(unused, coordinate) == smooth).all()
    once = np.column_stack([latents, np.arange(200) == 7])  # varies in four of the five folds
    assert pearson(along_smooth_function(once, coordinate), coordinate) == pytest.approx(
        pearson(smooth, coordinate), abs=0.01
    )


def test_a_smooth_function_needs_images_and_something_that_varies() -> None:
    rng = np.random.default_rng(7)
    latents, coordinate = rng.normal(size=(100, 2)), rng.random(100)
    few = slice(FEWEST_IMAGES - 1)
    assert np.isnan(along_smooth_function(latents[few], coordinate[few])).all()
    assert np.isnan(along_smooth_function(latents, np.full(100, 0.3))).all()
    still = along_smooth_function(np.full((100, 2), 0.3), coordinate)
    assert np.isnan(pearson(still, coordinate))


def leakage_of(latents: str) -> dict[str, list[float]]:
    draw = np.random.default_rng(0)
    rotation = Rotation.random(N, random_state=0).as_matrix()
    defocus = draw.uniform(8e3, 2.5e4, N)
    mean = {
        "pose": rotation[:, :, 2],
        "ctf": np.stack([defocus / 1e4, 0.01 * draw.standard_normal(N)], axis=1),
        "neither": draw.standard_normal((N, 2)),
        "still": np.zeros((N, 2)),
    }[latents]
    return leakage_scores(mean, np.zeros(N, int), rotation, defocus)


def test_what_leaks_is_told_from_what_does_not() -> None:
    pose, ctf, neither = (leakage_of(name) for name in ("pose", "ctf", "neither"))
    assert pose["leakage_pose"] == pytest.approx(
        [2 / N, 2 / N]
    )  # the nearest is the nearest: rank 1
    assert pose["leakage_ctf"] == pytest.approx([1.0, 1.0], abs=0.12)
    assert ctf["leakage_ctf"][0] < 0.1
    assert ctf["leakage_pose"] == pytest.approx([1.0, 1.0], abs=0.12)
    assert neither["leakage_pose"] == pytest.approx([1.0, 1.0], abs=0.12)


def test_still_latents_leak_nothing_that_could_be_measured() -> None:
    assert np.isnan(leakage_of("still")["leakage_pose"]).all()
