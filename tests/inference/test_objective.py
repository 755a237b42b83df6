"""Data terms against their closed forms: the Gaussian density, its maximum over nuisance
parameters, eq. 7."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from kinesphere.fourier import centred_irfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.inference.objective import make_objective
from kinesphere.inference.options import ObjectiveName


def products(
    data: torch.Tensor, model: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """cross, power, norm of real vectors along the last axis."""
    return (data * model).sum(-1), (model**2).sum(-1), (data**2).sum(-1)


def test_gaussian_is_the_density_of_white_noise_up_to_a_constant_of_the_image() -> None:
    data, models = torch.randn(50).double(), torch.randn(7, 50).double()
    found = make_objective("gaussian").log_likelihood(*products(data, models), 50.0)
    exact = Normal(models, torch.ones(1).double()).log_prob(data).sum(-1)
    constant = Normal(0.0, torch.ones(1).double()).log_prob(data).sum()
    torch.testing.assert_close(found, exact - constant)


def test_profiled_is_the_maximum_over_amplitude_and_noise() -> None:
    """Maximised by hand on a fine grid of amplitudes, each with its best noise level; relative to
    amplitude 0."""
    n = 40
    model = torch.randn(5, n).double()
    data = 0.7 * model + torch.randn(5, n).double()
    found = make_objective("profiled").log_likelihood(*products(data, model), float(n))
    amplitude = torch.linspace(0.0, 3.0, 30_001).double()
    residual = (
        (data[:, None] - amplitude[:, None] * model[:, None]).square().sum(-1)
    )  # (5, amplitudes)
    std = (residual / n).sqrt()
    log_density = -n * std.log() - 0.5 * n - 0.5 * n * math.log(2 * math.pi)
    torch.testing.assert_close(
        found, log_density.max(1).values - log_density[:, 0], atol=1e-5, rtol=1e-5
    )


def test_profiled_does_not_reward_the_wrong_contrast() -> None:
    data = torch.randn(3, 40)
    objective = make_objective("profiled")
    assert not objective.log_likelihood(*products(data, -data), 40.0).any()
    assert bool((objective.log_likelihood(*products(data, data + 0.1), 40.0) > 50).all())


def test_profiled_stays_finite_for_a_perfect_match_and_an_empty_model() -> None:
    data = torch.randn(40)
    for model in (data, torch.zeros(40)):
        leaf = model.clone().requires_grad_()
        value = make_objective("profiled").log_likelihood(*products(data, leaf), 40.0)
        value.backward()
        assert bool(torch.isfinite(value))
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())


def test_correlation_is_that_of_the_pixels() -> None:
    """Eq. 7 centres the images; a band without shell 0 is centred, and Parseval does the rest."""
    band = FourierBand.of_grid(RenderGrid(24, 1.0))
    coefficients = torch.randn(2, len(band), dtype=torch.complex64)
    on_axis = band.column == 0
    half_plane = torch.zeros(2, 24 * 13, dtype=torch.complex64)
    half_plane[:, band.flat_index(24)] = torch.where(
        on_axis, coefficients.real.to(torch.complex64), coefficients
    )
    half_plane = half_plane.reshape(2, 24, 13)
    mirrored = torch.roll(half_plane[:, :, :1].flip(1), 1, 1).conj()
    half_plane[:, :, :1] = 0.5 * (
        half_plane[:, :, :1] + mirrored
    )  # the axis of a real image is Hermitian
    pixels = centred_irfft2(half_plane, 24).flatten(1)
    data, model = torch.view_as_real(band.select(half_plane) * band.multiplicity.sqrt()).flatten(1)
    found = make_objective("correlation").log_likelihood(*products(data, model), 1.0)
    torch.testing.assert_close(found, torch.corrcoef(pixels)[0, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["profiled", "correlation"])
def test_amplitude_of_the_image_does_not_matter(name: ObjectiveName) -> None:
    data, model = torch.randn(2, 30)
    objective = make_objective(name)
    torch.testing.assert_close(
        objective.log_likelihood(*products(3.0 * data, 0.2 * model), 30.0),
        objective.log_likelihood(*products(data, model), 30.0),
    )


def test_only_the_papers_correlation_is_taken_of_images_that_are_not_whitened() -> None:
    names: tuple[ObjectiveName, ...] = ("gaussian", "profiled", "correlation")
    assert [make_objective(name).whitened for name in names] == [True, True, False]
