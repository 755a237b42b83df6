"""Signal scale and noise power per shell and optics group, recovered from images that were made
with known ones."""

from __future__ import annotations

import pytest
import torch

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.imaging.noise import ShellStatistics, SignalAndNoise

BAND = FourierBand.of_grid(RenderGrid(32, 2.0), 12)


def truth() -> tuple[torch.Tensor, torch.Tensor]:
    """(2, 13) scale and noise power of two optics groups, both falling and rising with
    resolution."""
    shell = torch.arange(13.0)
    scale = torch.stack([1.5 * torch.exp(-shell / 12), 0.4 + 0 * shell])
    variance = torch.stack([2.0 + shell / 6, 5.0 - shell / 4])
    return scale, variance


def simulate(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Models and images: X = scale · M + noise, complex normal of the given power per
    coefficient."""
    group = torch.arange(n) % 2
    scale, variance = truth()
    model = torch.randn(n, len(BAND), dtype=torch.complex64) * torch.exp(-BAND.shell / 10)
    noise = torch.randn(n, len(BAND), dtype=torch.complex64) * variance[group][:, BAND.shell].sqrt()
    return group, model, scale[group][:, BAND.shell] * model + noise


def estimate(group: torch.Tensor, model: torch.Tensor, data: torch.Tensor) -> SignalAndNoise:
    statistics = ShellStatistics(BAND, 2)
    for rows in torch.arange(len(data)).split(100):
        statistics.add_data(group[rows], data[rows])
        statistics.add_model(group[rows], data[rows], model[rows], torch.ones(len(rows)))
    return SignalAndNoise.estimate(statistics)


def test_known_scale_and_power_of_two_groups_are_recovered() -> None:
    found = estimate(*simulate(1200))
    scale, variance = truth()
    counts = BAND.sum_by_shell(torch.ones(len(BAND)))[1:] * 600
    # one coefficient's |noise|² is exponential, so that a mean over n has a relative error of
    # √(2/n), twice counted
    assert bool(((found.variance / variance - 1)[:, 1:].abs() < 5 * (2 / counts).sqrt()).all())
    model_power = torch.exp(-torch.arange(1.0, 13) / 5)
    error = (variance[:, 1:] / (2 * counts * model_power)).sqrt()
    assert bool(((found.scale - scale)[:, 1:].abs() < 5 * 2**0.5 * error).all())


def test_weights_of_conformations_share_out_an_image() -> None:
    """Two conformations of posterior ½ each count as much as one image, not two."""
    group, model, data = simulate(200)
    whole, shared = ShellStatistics(BAND, 2), ShellStatistics(BAND, 2)
    ones = torch.ones(200)
    for statistics in (whole, shared):
        statistics.add_data(group, data)
    whole.add_model(group, data, model, ones)
    for _ in range(2):
        shared.add_model(group, data, model, 0.5 * ones)
    expected, found = SignalAndNoise.estimate(whole), SignalAndNoise.estimate(shared)
    torch.testing.assert_close(found.scale, expected.scale)
    torch.testing.assert_close(found.variance, expected.variance)


def test_images_and_their_pairs_in_one_go_add_up_to_the_same_sums() -> None:
    """Two to three pairs an image, of two groups, on part of the band."""
    keep = len(BAND.coarser(8))
    group, factor, data = (values[:40] for values in simulate(40))
    transfer, image = torch.randn(40, keep), torch.arange(100) % 40
    weight, factor = torch.rand(100), factor[image][:, :keep] * torch.randn(100, 1)
    expected, found = ShellStatistics(BAND, 2), ShellStatistics(BAND, 2)
    expected.add_data(group, data[:, :keep])
    expected.add_model(group[image], data[image][:, :keep], transfer[image] * factor, weight)
    found.add_batch(group, data[:, :keep], transfer, factor, image, weight)
    for name in ("data", "cross", "model", "count"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-3
        )
    assert float(found.model[:, 8].min()) > 0
    assert float(found.count[:, 9:].max()) == 0


def test_residual_power_is_that_of_the_difference() -> None:
    group, model, data = simulate(60)
    found = estimate(group, model, data)
    residual = data - found.scale[group][:, BAND.shell] * model
    by_hand = torch.stack(
        [BAND.sum_by_shell(residual[group == g].abs() ** 2).sum(0) for g in range(2)]
    )
    counts = BAND.sum_by_shell(torch.ones(len(BAND))) * 30
    torch.testing.assert_close(found.variance[:, 1:], (by_hand / counts)[:, 1:], rtol=1e-4, atol=0)


def test_a_model_of_the_wrong_sign_has_no_scale_and_explains_nothing() -> None:
    group, model, data = simulate(400)
    found = estimate(group, -model, data)
    assert float(found.scale.max()) == 0.0
    power = torch.stack([BAND.sum_by_shell(data[group == g].abs() ** 2).mean(0) for g in range(2)])
    counts = BAND.sum_by_shell(torch.ones(len(BAND)))
    torch.testing.assert_close(found.variance[:, 1:], (power / counts)[:, 1:])


def test_noiseless_data_and_an_empty_model_stay_finite() -> None:
    group, model, _ = simulate(10)
    exact = estimate(group, model, model)
    assert bool((exact.variance > 0).all())
    assert exact.scale[:, 1:].mean() == pytest.approx(1.0, abs=1e-5)
    nothing = estimate(group, torch.zeros_like(model), torch.zeros_like(model))
    assert bool(torch.isfinite(nothing.variance.log()).all())


def test_coarse_stage_updates_its_shells_only() -> None:
    group, model, data = simulate(100)
    before = SignalAndNoise(torch.full((2, 13), 0.25), torch.full((2, 13), 7.0))
    coarse = BAND.coarser(5)
    statistics = ShellStatistics(BAND, 2)
    statistics.add_data(group, data[:, : len(coarse)])
    statistics.add_model(group, data[:, : len(coarse)], model[:, : len(coarse)], torch.ones(100))
    after = before.updated(statistics, 5)
    full = estimate(group, model, data)
    torch.testing.assert_close(after.scale[:, 1:6], full.scale[:, 1:6])
    torch.testing.assert_close(after.variance[:, 6:], before.variance[:, 6:])
    torch.testing.assert_close(after.scale[:, 6:], before.scale[:, 6:])
