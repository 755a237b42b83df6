"""Volumes of a run: an equal weight of all images is the consensus, and what half sets do not agree
on goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import moving_run as helper
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.volumes.maker import VolumeMaker


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> VolumeMaker:
    """Volumes of a few images, nothing kept on disk."""
    folder: Path = tmp_path_factory.mktemp("data")
    run = helper.KnownRun(helper.simulate(folder, 300, 1.0), folder)
    return VolumeMaker(run, pose_problem(run, ReconstructionSettings()))


def test_a_kernel_over_all_images_gives_next_to_the_consensus(maker: VolumeMaker) -> None:
    middle = np.array([0.5 * (helper.N_STATES - 1)])
    wide = maker.at({1: middle, 2: middle}, "kernel", 1.0)
    narrow = maker.at({1: middle, 2: middle}, "kernel", 0.1)
    size = np.sqrt(np.mean(maker.consensus**2))
    assert np.sqrt(np.mean(wide.difference**2)) < 0.05 * size
    assert np.sqrt(np.mean(narrow.difference**2)) > np.sqrt(np.mean(wide.difference**2))


def test_differences_correlate_with_themselves_and_not_with_nothing(maker: VolumeMaker) -> None:
    rng = np.random.default_rng(0)
    difference = rng.standard_normal(maker.consensus.shape)
    assert maker.correlate(difference, 3.0 * difference) == pytest.approx(1.0)
    assert maker.correlate(difference, np.zeros_like(difference)) == 0.0


def test_the_fsc_of_a_map_with_itself_is_one(maker: VolumeMaker) -> None:
    curve = maker.fsc(maker.consensus, 2.0 * maker.consensus)
    assert curve[1:] == pytest.approx(np.ones(len(curve) - 1), abs=1e-6)
