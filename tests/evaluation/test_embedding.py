"""The best straight direction of a latent space of known geometry; latents that follow the view,
the defocus, or neither.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.evaluation.embedding import along_best_direction, leakage_scores
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
