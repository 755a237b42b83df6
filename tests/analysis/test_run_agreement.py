"""Two runs on the same particles: what they agree on is measured, and only that."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.run_agreement import compare_runs
from kinesphere.analysis.summary import AnalysisSettings, analyse
from kinesphere.errors import InputError
from kinesphere.runs.first_half import one_latent_space

SETTINGS = AnalysisSettings(frames=3, clusters=2)


@pytest.fixture
def run(fake: ModuleType, tmp_path: Any) -> Any:
    made = fake.hinge_run(tmp_path, n=400)
    return replace(made, provenance={**made.provenance, "method": "segments"})


def with_latents(run: Any, change: Any) -> Any:
    return replace(run, latents=replace(run.latents, mean=change(run.latents.mean)))


def test_a_run_agrees_with_itself(run: Any) -> None:
    agreement = compare_runs(run, analyse(run, SETTINGS), run, lambda _: run)
    assert agreement.correlation == pytest.approx(1.0)
    assert agreement.difference_angstrom < 1e-4
    assert agreement.method == "segments"


def test_noise_of_one_run_lowers_the_correlation_by_what_it_adds(run: Any) -> None:
    """Latents of variance v and noise of variance w correlate as √(v / (v + w)); small turns are
    linear."""
    noise = np.random.default_rng(0).normal(0.0, 0.5, (400, 1)) * [1.0, 0.0]
    other = with_latents(run, lambda z: z + noise)
    agreement = compare_runs(run, analyse(run, SETTINGS), other, lambda _: other)
    variance = run.latents.mean[:, 0].var()
    assert agreement.correlation == pytest.approx(np.sqrt(variance / (variance + 0.25)), abs=0.03)
    assert agreement.difference_angstrom > 0.1


def test_where_a_run_finds_no_motion_there_is_no_correlation(run: Any) -> None:
    other = with_latents(run, np.zeros_like)
    assert np.isnan(compare_runs(run, analyse(run, SETTINGS), other, lambda _: other).correlation)


def test_a_mean_displacement_is_no_difference(run: Any) -> None:
    moved = replace(run, model=run.model.with_positions(run.model.positions_angstrom + 3.0))
    shifted = replace(
        moved, hinges=tuple(replace(h, point=tuple(np.add(h.point, 3.0))) for h in run.hinges)
    )
    agreement = compare_runs(run, analyse(run, SETTINGS), shifted, lambda _: shifted)
    assert agreement.difference_angstrom < 1e-3


def test_images_of_a_half_set_are_compared_with_the_same_images(run: Any) -> None:
    halves = replace(run, latents=replace(run.latents, half=1 + np.arange(400) % 2))
    shown = one_latent_space(halves)
    agreement = compare_runs(shown, analyse(shown, SETTINGS), run, lambda _: run)
    assert agreement.correlation == pytest.approx(1.0)
    assert np.array_equal(agreement.images, np.arange(0, 400, 2))


def test_other_particles_are_refused(run: Any) -> None:
    config = {**run.config, "particles": "particles.star"}
    first, other = replace(run, config=config), replace(run, config=config)
    other = replace(
        other, provenance={**run.provenance, "inputs": {"particles.star": "sha256:1234"}}
    )
    with pytest.raises(InputError, match="is not of the particles of"):
        compare_runs(first, analyse(first, SETTINGS), other, lambda _: other)
