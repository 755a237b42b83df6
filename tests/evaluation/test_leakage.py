"""Latents that follow the view, latents that follow the defocus, and latents that follow
neither."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.evaluation.leakage import leakage_scores

N = 300


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
