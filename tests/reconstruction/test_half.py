"""A half set from images to maps: with few views, and in pieces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import moving_run as helper
from kinesphere.io.mrc import read_map
from kinesphere.reconstruction import half as half_module
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.runtime import InterruptedRunError, Interrupts


def test_a_few_views_give_what_they_give_without_motion(data: Any, tmp_path: Path) -> None:
    """Most of Fourier space is not sampled then: what the support's edge puts there must not be
    made large."""
    run = helper.KnownRun(data, tmp_path)
    half = np.where(np.arange(len(run.particles)) < 12, 1, 2)
    run.latents = replace(run.latents, half=half)
    problem = pose_problem(run, ReconstructionSettings(homogeneous=True))
    checkpoints = half_module.HalfCheckpoints(tmp_path / "checkpoints", problem.fingerprint)
    maps = half_module.reconstruct_half(problem, 1, checkpoints, Interrupts(), lambda *_: None)
    inside = problem.support.inside
    assert np.corrcoef(maps.moved[inside], maps.homogeneous[inside])[0, 1] > 0.95
    assert maps.moved[inside].std() < 1.1 * maps.homogeneous[inside].std()


class StopAfter(Interrupts):
    """Raises the flag at the so-manyth look at it."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._left = looks

    @property
    def requested(self) -> bool:
        self._left -= 1
        if self._left <= 0:
            self.signal_number = 15
        return self._left <= 0

    def raise_if_requested(self) -> None:
        if self.requested:
            super().raise_if_requested()


@pytest.mark.parametrize("looks", [1, 3, 8, 20])
def test_stopped_and_continued_equals_uninterrupted(
    done: Path, data: Any, tmp_path: Path, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinesphere.reconstruction.backprojection._NODES_A_MOTION_CALL", 100_000)
    problem = pose_problem(helper.KnownRun(data, tmp_path), ReconstructionSettings(iterations=4))
    checkpoints = half_module.HalfCheckpoints(tmp_path, problem.fingerprint)

    def silent(step: str, done: int, total: int) -> None:
        assert done <= total

    stops = 0
    while True:
        try:
            maps = half_module.reconstruct_half(
                problem, 1, checkpoints, StopAfter(looks + stops), silent
            )
            break
        except InterruptedRunError:
            stops += 1
    assert stops > 0
    expected = read_map(done / "solved" / "half1.mrc").data
    assert np.abs(maps.moved - expected).max() < 1e-4 * np.abs(expected).max()
