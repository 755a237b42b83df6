"""Places of the latent space: where they are asked for, and one state in both halves' spaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import moving_run as helper
from kinesphere.errors import InputError
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import Problem, pose_problem
from kinesphere.volumes.options import VolumeSettings
from kinesphere.volumes.targets import choose_targets


@pytest.fixture(scope="module")
def posed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Problem]:
    """A run of two models, the second of which has its latents the other way round."""
    folder = tmp_path_factory.mktemp("data")
    run = helper.KnownRun(helper.simulate(folder, 300, 0.5), folder)
    second = run.latents.half == 2
    mean = np.where(second[:, None], -run.latents.mean, run.latents.mean)
    run.latents = replace(run.latents, mean=mean)
    return run, pose_problem(run, ReconstructionSettings())


def test_quantiles_along_the_latents_are_in_order(posed: tuple[Any, Problem]) -> None:
    places = choose_targets(*posed, VolumeSettings(steps=3))
    first = places[1][:, 0]
    assert (np.diff(first) > 0).all() or (np.diff(first) < 0).all()
    assert first.min() >= 0
    assert first.max() <= helper.N_STATES - 1


def test_the_second_space_shows_the_states_of_the_first(posed: tuple[Any, Problem]) -> None:
    places = choose_targets(*posed, VolumeSettings(at="5"))
    assert places[1][0, 0] == 5.0
    assert places[2][0, 0] == pytest.approx(-5.0, abs=0.5)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (VolumeSettings(at="a,b"), "not a list of numbers"),
        (VolumeSettings(at="1,2"), "no place of this latent space"),
        (VolumeSettings(at="nan"), "no place of this latent space"),
        (VolumeSettings(traverse=2), "no component 2"),
    ],
)
def test_places_that_are_none_are_refused(
    posed: tuple[Any, Problem], settings: VolumeSettings, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        choose_targets(*posed, settings)


def test_clusters_stand_at_images(posed: tuple[Any, Problem]) -> None:
    places = choose_targets(*posed, VolumeSettings(clusters=3))
    assert set(places[1][:, 0]) <= set(range(helper.N_STATES))


def test_one_model_has_one_space(tmp_path: Path, posed: tuple[Any, Problem]) -> None:
    run = helper.KnownRun(posed[0].data, tmp_path, halves=False)
    problem = pose_problem(run, ReconstructionSettings())
    places = choose_targets(run, problem, VolumeSettings(at="2.5"))
    np.testing.assert_array_equal(places[1], places[2])
