"""Half-plane Fourier transforms: Parseval, shifts, and boxes that change without moving or
rescaling the image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.signal
import torch

from kinesphere import fourier

SIZES = (15, 16)
BOX_PAIRS = [
    (small, large)
    for small, large in itertools.product((9, 10, 12), (12, 13, 15, 16))
    if small < large
]


def _noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _gaussian(n: int, centre_xy: tuple[float, float], sigma_px: float) -> torch.Tensor:
    """A Gaussian of unit height `centre_xy` pixels away from pixel n // 2."""
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    x, y = axis[None, :] - centre_xy[0], axis[:, None] - centre_xy[1]
    return torch.exp(-(x**2 + y**2) / (2 * sigma_px**2))


@pytest.mark.parametrize("n", SIZES)
def test_transform_matches_the_definition_with_the_centre_as_origin(n: int) -> None:
    images = _noise(n)
    ky, kx = fourier.fourier_grid(n, dtype=torch.float64)
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    phase = torch.exp(
        -2j * torch.pi * (ky[..., None, None] * axis[:, None] + kx[..., None, None] * axis)
    )
    direct = torch.einsum("byx,klyx->bkl", images.to(phase.dtype), phase)
    torch.testing.assert_close(fourier.centred_rfft2(images), direct)


@pytest.mark.parametrize("n", SIZES)
def test_inverse_returns_the_image(n: int) -> None:
    images = _noise(n)
    torch.testing.assert_close(fourier.centred_irfft2(fourier.centred_rfft2(images), n), images)


@pytest.mark.parametrize("n", SIZES)
def test_half_plane_sums_equal_full_plane_sums(n: int) -> None:
    images = _noise(n)
    half = (
        fourier.half_plane_weights(n, dtype=torch.float64)
        * fourier.centred_rfft2(images).abs() ** 2
    )
    full = torch.fft.fft2(images).abs() ** 2
    torch.testing.assert_close(half.sum((-2, -1)), full.sum((-2, -1)))
    torch.testing.assert_close(half.sum((-2, -1)) / n**2, (images**2).sum((-2, -1)))


@pytest.mark.parametrize("n", SIZES)
def test_radial_average_equals_the_full_plane_average(n: int) -> None:
    images = _noise(n)
    k = torch.fft.fftfreq(n, dtype=torch.float64)
    shell = torch.round(torch.hypot(k[:, None], k[None, :]) * n)
    full = torch.fft.fft2(images).abs() ** 2
    expected = torch.stack([full[:, shell == s].mean(-1) for s in range(n // 2 + 1)], dim=-1)
    torch.testing.assert_close(
        fourier.radial_average(fourier.centred_rfft2(images).abs() ** 2, n), expected
    )


@pytest.mark.parametrize(("small", "large"), BOX_PAIRS)
def test_crop_agrees_with_scipy_resample(small: int, large: int) -> None:
    images = _noise(large)
    cropped = fourier.centred_irfft2(
        fourier.crop_fourier(fourier.centred_rfft2(images), large, small), small
    )
    resampled = np.fft.ifftshift(images.numpy(), axes=(-2, -1))
    for axis in (-2, -1):
        resampled = scipy.signal.resample(resampled, small, axis=axis)
    np.testing.assert_allclose(
        cropped.numpy(), np.fft.fftshift(resampled, axes=(-2, -1)), atol=1e-12
    )


@pytest.mark.parametrize(("small", "large"), BOX_PAIRS)
def test_pad_agrees_with_scipy_resample_and_crop_undoes_it(small: int, large: int) -> None:
    images = _noise(small)
    transform = fourier.centred_rfft2(images)
    padded = fourier.pad_fourier(transform, small, large)
    resampled = np.fft.ifftshift(images.numpy(), axes=(-2, -1))
    for axis in (-2, -1):
        resampled = scipy.signal.resample(resampled, large, axis=axis)
    found = fourier.centred_irfft2(padded, large).numpy()
    np.testing.assert_allclose(found, np.fft.fftshift(resampled, axes=(-2, -1)), atol=1e-12)
    torch.testing.assert_close(fourier.crop_fourier(padded, large, small), transform)


@pytest.mark.parametrize(("small", "large"), BOX_PAIRS)
def test_cropped_and_padded_transforms_are_those_of_real_images(small: int, large: int) -> None:
    cropped = fourier.crop_fourier(fourier.centred_rfft2(_noise(large)), large, small)
    torch.testing.assert_close(
        fourier.centred_rfft2(fourier.centred_irfft2(cropped, small)), cropped
    )
    padded = fourier.pad_fourier(fourier.centred_rfft2(_noise(small)), small, large)
    torch.testing.assert_close(fourier.centred_rfft2(fourier.centred_irfft2(padded, large)), padded)


@pytest.mark.parametrize(("small", "large"), BOX_PAIRS)
def test_band_limited_image_survives_crop_then_pad(small: int, large: int) -> None:
    transform = fourier.centred_rfft2(_noise(large))
    ky, kx = fourier.fourier_grid(large)
    limit = small / (2 * large)
    transform = torch.where((ky.abs() < limit) & (kx.abs() < limit), transform, 0)
    again = fourier.pad_fourier(fourier.crop_fourier(transform, large, small), small, large)
    torch.testing.assert_close(again, transform)


@pytest.mark.parametrize(("large", "small"), [(64, 32), (64, 33), (65, 32), (65, 33), (63, 48)])
def test_off_centre_blob_keeps_its_place_height_and_mean(large: int, small: int) -> None:
    image = _gaussian(large, (6.3, -4.1), 4.0)
    scale = small / large
    cropped = fourier.centred_irfft2(
        fourier.crop_fourier(fourier.centred_rfft2(image), large, small), small
    )
    torch.testing.assert_close(
        cropped, _gaussian(small, (6.3 * scale, -4.1 * scale), 4.0 * scale), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(cropped.mean(), image.mean())


def test_cosine_keeps_its_amplitude_even_at_the_new_nyquist() -> None:
    axis = torch.arange(32, dtype=torch.float64) - 16
    for cycles in (3, 8):
        wave = torch.cos(2 * torch.pi * cycles * axis / 32).expand(32, 32)
        cropped = fourier.centred_irfft2(
            fourier.crop_fourier(fourier.centred_rfft2(wave), 32, 16), 16
        )
        expected = torch.cos(
            2 * torch.pi * cycles * (torch.arange(16, dtype=torch.float64) - 8) / 16
        )
        torch.testing.assert_close(cropped, expected.expand(16, 16))


@pytest.mark.parametrize("n", SIZES)
def test_integer_shift_is_a_roll(n: int) -> None:
    images = _noise(n)
    shifts = torch.tensor([[2.0, -3.0], [0.0, 5.0], [-1.0, 0.0]], dtype=torch.float64)
    moved = fourier.centred_irfft2(fourier.shift_fourier(fourier.centred_rfft2(images), shifts), n)
    rolled = [
        torch.roll(im, (int(dy), int(dx)), (0, 1))
        for im, (dx, dy) in zip(images, shifts, strict=True)
    ]
    torch.testing.assert_close(moved, torch.stack(rolled))


def test_fractional_shift_moves_a_blob_by_plus_the_shift() -> None:
    shift = torch.tensor([[1.25, -2.6]], dtype=torch.float64)
    moved = fourier.centred_irfft2(
        fourier.shift_fourier(fourier.centred_rfft2(_gaussian(32, (0, 0), 3.0))[None], shift), 32
    )
    torch.testing.assert_close(moved[0], _gaussian(32, (1.25, -2.6), 3.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", SIZES)
def test_fractional_shift_equals_shifting_the_interpolated_image(n: int) -> None:
    """The Nyquist row of an even box shifts like the real wave it stands for."""
    transform = fourier.centred_rfft2(_noise(n))
    shift = torch.tensor([[0.3, 0.7], [-1.4, 0.2], [0.5, 0.5]], dtype=torch.float64)
    fine = fourier.shift_fourier(fourier.pad_fourier(transform, n, 2 * n), 2 * shift)
    torch.testing.assert_close(
        fourier.shift_fourier(transform, shift), fourier.crop_fourier(fine, 2 * n, n)
    )


def test_gradients_flow_through_crop_pad_and_shift() -> None:
    images = _noise(6).requires_grad_()
    shift = torch.tensor([[0.3, 0.1]] * 3, dtype=torch.float64, requires_grad=True)

    def resampled(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        padded = fourier.pad_fourier(
            fourier.shift_fourier(fourier.centred_rfft2(images), shift), 6, 9
        )
        return fourier.centred_irfft2(fourier.crop_fourier(padded, 9, 4), 4)

    assert torch.autograd.gradcheck(resampled, (images, shift))


def test_wrong_direction_is_refused() -> None:
    transform = fourier.centred_rfft2(_noise(8))
    with pytest.raises(ValueError, match="cannot crop"):
        fourier.crop_fourier(transform, 8, 10)
    with pytest.raises(ValueError, match="cannot pad"):
        fourier.pad_fourier(transform, 8, 6)
