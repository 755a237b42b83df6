"""Kernel volumes: weights follow the latents, equal weights change nothing, each place shows its
own state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import moving_run as helper
from kinesphere.reconstruction.backprojection import HalfSums, homogeneous_map
from kinesphere.reconstruction.fourier_volume import FourierVolume
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.scattering import potential_map
from kinesphere.volumes.kernel import (
    effective_number,
    fit_kernel,
    kernel_map,
    kernel_weights,
    toward_consensus,
)


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("data")
    run = helper.KnownRun(helper.simulate(folder, 600, 0.5), folder)
    return pose_problem(run, ReconstructionSettings(homogeneous=True)), run


def _images(posed: Any) -> tuple[WeightedImages, np.ndarray]:
    rows = posed.rows(1)
    return WeightedImages(
        posed.particles, posed.loader, noise_power(posed.particles, posed.loader, rows, 64)
    ), rows


def test_equal_weights_give_the_plain_backprojection(problem: Any) -> None:
    images, rows = _images(problem[0])
    plain = FourierVolume(images.grid.box)
    for start in range(0, len(rows), 64):
        batch = images.batch(rows[start : start + 64])
        plain.insert(batch.data, batch.precision, batch.rotation)
    expected = homogeneous_map(HalfSums(plain, np.zeros(0))).astype(np.float32)
    np.testing.assert_array_equal(kernel_map(images, rows, np.ones(len(rows))), expected)


def test_each_place_shows_its_own_state(problem: Any) -> None:
    posed, run = problem
    images, rows = _images(posed)
    mean = run.latents.mean[rows]
    covariance = np.full((len(rows), 1, 1), 0.1)
    ensemble = adenylate_kinase(helper.N_STATES).centred()
    ends = [
        potential_map(
            ensemble.positions[s],
            ensemble.model.atomic_number,
            helper.BOX,
            helper.PIXEL_ANGSTROM,
            60.0,
        )
        for s in (0, helper.N_STATES - 1)
    ]
    found = [
        kernel_map(images, rows, fit_kernel(mean, covariance, np.array([z]), 0.2).weight)
        for z in (0.0, helper.N_STATES - 1.0)
    ]
    correlation = np.array([[np.corrcoef(f.ravel(), e.ravel())[0, 1] for e in ends] for f in found])
    assert correlation[0, 0] > correlation[0, 1] + 0.02
    assert correlation[1, 1] > correlation[1, 0] + 0.02


def test_bandwidth_gives_the_number_of_images_asked_for() -> None:
    rng = np.random.default_rng(1)
    mean, covariance = rng.normal(size=(2000, 2)), np.tile(0.01 * np.eye(2), (2000, 1, 1))
    kernel = fit_kernel(mean, covariance, np.zeros(2), 0.2)
    assert kernel.n_effective == pytest.approx(400, rel=0.01)
    assert effective_number(fit_kernel(mean, covariance, np.zeros(2), 1.0).weight) == pytest.approx(
        2000
    )


def test_uncertain_images_weigh_less_than_certain_ones_at_the_same_place() -> None:
    mean = np.array([[0.0], [0.0], [3.0], [-3.0]])
    covariance = np.array([0.01, 4.0, 0.01, 0.01])[:, None, None]
    weight = kernel_weights(mean, covariance, np.zeros(1), 0.05)
    assert weight[0] == 1.0
    assert weight[2] < weight[1] < 0.5


def test_only_what_both_halves_agree_on_is_kept_of_a_difference() -> None:
    draw = np.random.default_rng(0)
    consensus, kernel = draw.standard_normal((2, 16, 16, 16))
    nothing = toward_consensus(kernel, consensus, np.zeros(8))
    np.testing.assert_allclose(nothing, consensus, atol=1e-6)
    some = toward_consensus(kernel, consensus, np.where(np.arange(8) < 4, 1.0, -0.2))
    low = fourier_shell_correlation(some, kernel), fourier_shell_correlation(some, consensus)
    np.testing.assert_allclose(low[0][1:4], 1.0, atol=1e-6)
    np.testing.assert_allclose(low[1][4:], 1.0, atol=1e-6)
    half = toward_consensus(kernel, consensus, np.full(8, 1 / 3))  # W = 2F / (1 + F) = 1/2
    spectrum = np.fft.fftn(half - 0.5 * (kernel + consensus))
    assert np.abs(spectrum[shells_below(16, 7)]).max() < 1e-3


def shells_below(box: int, shell: int) -> np.ndarray:
    axis = np.fft.fftfreq(box) * box
    return np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij"))) < shell
