"""Coefficients in float16: the stated error holds, whatever the size of the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kinesphere.observations.coefficients import (
    ExactKeeper,
    HalfCoefficients,
    HalfKeeper,
    from_half,
    to_half,
)


def _noise(n_images: int = 50, n_coefficients: int = 301, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 128 * torch.randn(n_images, n_coefficients, dtype=torch.complex64, generator=draw)


def _one_by_one(coefficients: torch.Tensor) -> torch.Tensor:
    """Reference: round each part of each image to float16 at a scale that the standard library
    works out."""
    rounded = torch.empty_like(coefficients)
    for i, image in enumerate(coefficients.tolist()):
        exponent = math.frexp(max(max(abs(value.real), abs(value.imag)) for value in image))[1] - 15
        for j, value in enumerate(image):
            real, imaginary = (
                math.ldexp(float(np.float16(math.ldexp(part, -exponent))), exponent)
                for part in (value.real, value.imag)
            )
            rounded[i, j] = complex(real, imaginary)
    return rounded


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e9])
def test_agrees_with_the_reference(size: float) -> None:
    coefficients = size * _noise(7, 40)
    torch.testing.assert_close(
        from_half(*to_half(coefficients)), _one_by_one(coefficients), atol=0, rtol=0
    )


def test_relative_error_of_a_part_is_below_2_to_the_minus_11() -> None:
    """Over six orders of magnitude within one image, as strong low-resolution signal over weak
    noise has them."""
    coefficients = _noise() * torch.logspace(0, -6, 301)
    parts = torch.view_as_real(coefficients).abs().flatten(1)
    error = torch.view_as_real(from_half(*to_half(coefficients)) - coefficients).abs().flatten(1)
    largest = parts.amax(1, keepdim=True)
    assert bool((error <= torch.maximum(2.0**-11 * parts, 2.0**-39 * largest)).all())


def test_adds_less_than_a_millionth_of_the_noise_power() -> None:
    coefficients = _noise()
    added = (from_half(*to_half(coefficients)) - coefficients).abs().square().sum()
    assert 0 < float(added / coefficients.abs().square().sum()) < 1e-6


def test_an_image_of_zeros_stays_one() -> None:
    coefficients = _noise(3)
    coefficients[1] = 0
    found = from_half(*to_half(coefficients))
    assert bool((found[1] == 0).all())
    assert bool(torch.isfinite(torch.view_as_real(found)).all())


def test_keepers_return_what_was_written_and_take_its_first_coefficients() -> None:
    coefficients = _noise(23)
    exact, half = ExactKeeper(torch.empty_like(coefficients)), HalfKeeper(coefficients.shape)
    for part in coefficients.split(5):
        exact.write(part)
        half.write(part)
    kept, rows = half.finish(), torch.tensor([4, 22, 4])
    assert isinstance(kept, HalfCoefficients)
    torch.testing.assert_close(exact.finish(), coefficients, atol=0, rtol=0)
    torch.testing.assert_close(
        kept.take(rows, 100), from_half(*to_half(coefficients))[rows, :100], atol=0, rtol=0
    )
    assert kept.to("cpu") is kept
    copy = kept.loaded("cpu")
    torch.testing.assert_close(copy.take(rows, 301), kept.take(rows, 301), atol=0, rtol=0)
    assert copy.values.data_ptr() != kept.values.data_ptr()
