"""States, poses and CTFs are drawn as the recipe says, and follow from the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from helpers.simulated import SMALL
from kinesphere.simulate.draws import draw_particles
from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(5)


def test_uniform_and_bimodal_populations(kinase: Ensemble) -> None:
    coordinate = np.linspace(0, 1, 21)[:, None]
    uniform = draw_particles(replace(SMALL, n=21_000), coordinate)
    assert np.bincount(uniform.state, minlength=21) == pytest.approx(np.full(21, 1000), rel=0.15)
    bimodal = coordinate[
        draw_particles(replace(SMALL, n=21_000, distribution="bimodal"), coordinate).state, 0
    ]
    assert (bimodal < 0.5).mean() == pytest.approx(0.65, abs=0.02)
    assert np.median(bimodal[bimodal < 0.5]) == pytest.approx(0.2, abs=0.03)
    assert np.median(bimodal[bimodal > 0.5]) == pytest.approx(0.8, abs=0.03)


def test_orientations_are_uniform_and_errors_as_large_as_said(kinase: Ensemble) -> None:
    draws = draw_particles(replace(SMALL, n=20_000), kinase.coordinate)
    direction = draws.rotation[:, :, 2]
    assert np.abs(direction.mean(axis=0)).max() < 0.02
    assert (direction**2).mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.01)
    error = Rotation.from_matrix(
        draws.rotation.transpose(0, 2, 1) @ draws.recorded_rotation
    ).magnitude()
    assert np.rad2deg(np.sqrt((error**2).mean())) == pytest.approx(2.0, rel=0.02)
    shift_error_px = (draws.recorded_shift_angstrom - draws.shift_angstrom) / SMALL.pixel_size
    assert shift_error_px.std() == pytest.approx(0.5, rel=0.02)
    assert np.bincount(draws.half).tolist() == [0, 10_000, 10_000]


def test_another_seed_draws_other_particles(kinase: Ensemble) -> None:
    same = draw_particles(replace(SMALL, snr=0.01), kinase.coordinate)
    other = draw_particles(replace(SMALL, seed=4), kinase.coordinate)
    drawn = draw_particles(SMALL, kinase.coordinate)
    assert np.array_equal(same.rotation, drawn.rotation)
    assert not np.array_equal(other.rotation, drawn.rotation)
