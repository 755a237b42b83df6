"""Sums over images: in one go or in pieces they are the same, and the support fades at its edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from helpers import moving_run as helper
from kinesphere.reconstruction.backprojection import HalfSums, Sweep, accumulate, blend_weight
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.reconstruction.support import Support


def test_a_map_fades_into_the_support_from_its_edge(support: Support) -> None:
    weight = blend_weight(support)
    assert (weight[~support.inside] == 0).all()
    assert weight.max() == 1
    assert 0 < weight[support.inside].min() < 1


def test_sums_go_on_where_they_stopped(data: Any, tmp_path: Path) -> None:
    problem = pose_problem(helper.KnownRun(data, tmp_path), ReconstructionSettings())
    rows = problem.rows(1)[:60]
    images = WeightedImages(
        problem.particles,
        problem.loader,
        noise_power(problem.particles, problem.loader, rows, 64),
    )
    whole = HalfSums.empty(problem.support)
    pieces = HalfSums.empty(problem.support)
    projector = DeformedProjector(problem.support)
    for sums, ends in ((whole, (60,)), (pieces, (25, 60))):
        for end in ends:
            accumulate(Sweep(images, rows[:end], projector, problem.motion), sums)
    assert whole.n_images == pieces.n_images == 60
    np.testing.assert_allclose(
        pieces.pulled, whole.pulled, rtol=1e-4, atol=1e-5 * np.abs(whole.pulled).max()
    )
    np.testing.assert_allclose(
        pieces.volume.sums, whole.volume.sums, atol=1e-5 * np.abs(whole.volume.sums).max()
    )
    whole.clear()
    assert not whole.pulled.any()
    assert whole.n_images == 60
