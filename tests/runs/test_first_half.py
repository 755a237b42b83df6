"""Two models have two latent spaces: only the first is shown, with its particles and its epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.fake_run import FakeRun, hinge_run
from kinesphere.runs.finished_run import FinishedRun
from kinesphere.runs.first_half import FirstHalf, one_latent_space


@pytest.fixture
def halves(tmp_path: Path) -> FakeRun:
    """A run whose particles belong to half sets 2, 1, 2, 1, … and whose epochs alternate."""
    run = hinge_run(tmp_path, n=20)
    half = np.where(np.arange(20) % 2 == 0, 2, 1)
    epochs = len(run.metrics["epoch"])
    metrics = run.metrics | {"half": 1.0 + np.arange(epochs) % 2}
    return replace(run, latents=replace(run.latents, half=half), metrics=metrics)


def test_a_run_of_one_model_is_shown_whole(tmp_path: Path) -> None:
    run = hinge_run(tmp_path, n=20)
    assert one_latent_space(run) is run


def test_particles_of_the_first_half_keep_their_structures(halves: FakeRun) -> None:
    shown = one_latent_space(halves)
    assert isinstance(shown, FirstHalf)
    assert isinstance(shown, FinishedRun)
    rows = np.arange(1, 20, 2)
    np.testing.assert_array_equal(shown.rows, rows)
    np.testing.assert_array_equal(shown.latents.index, rows)
    np.testing.assert_array_equal(shown.latents.mean, halves.latents.mean[rows])
    some = np.array([4, 0])
    np.testing.assert_array_equal(shown.structures(some), halves.structures(rows[some]))
    points = halves.model.centres_angstrom[:5]
    np.testing.assert_array_equal(
        shown.displacements(points, some), halves.displacements(points, rows[some])
    )


def test_epochs_are_those_of_the_first_model(halves: FakeRun) -> None:
    shown = one_latent_space(halves)
    assert set(shown.metrics["half"]) == {1.0}
    np.testing.assert_array_equal(shown.metrics["epoch"], halves.metrics["epoch"][::2])


def test_metrics_without_a_half_are_those_of_the_run(halves: FakeRun) -> None:
    metrics = {name: values for name, values in halves.metrics.items() if name != "half"}
    assert one_latent_space(replace(halves, metrics=metrics)).metrics is metrics


def test_what_does_not_depend_on_particles_is_the_runs(halves: FakeRun) -> None:
    shown = one_latent_space(halves)
    for name in ("path", "config", "provenance", "model", "memberships"):
        assert getattr(shown, name) is getattr(halves, name)
    z = np.array([[0.5, -0.2]])
    np.testing.assert_array_equal(shown.decode(z), halves.decode(z))
    np.testing.assert_array_equal(shown.decode_atoms(z), halves.decode_atoms(z))
