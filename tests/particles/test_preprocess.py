"""Background normalisation, ramps and Fourier-cropping of particle images."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinesphere import fourier
from kinesphere.io.mrc import ImageStack, write_stack
from kinesphere.particles import preprocess
from kinesphere.particles.options import BACKGROUND_FRACTION


def _images(n: int = 32, count: int = 5) -> torch.Tensor:
    """Noise of differing scale and offset with a bright blob in the middle."""
    generator = torch.Generator().manual_seed(3)
    axis = torch.arange(n) - n // 2
    blob = 5 * torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * (n / 10) ** 2))
    scale = torch.linspace(0.5, 40, count)[:, None, None]
    return (
        scale * (torch.randn(count, n, n, generator=generator) + blob)
        + torch.linspace(-9, 3000, count)[:, None, None]
    )


def _normalised(images: torch.Tensor, radius_px: float) -> torch.Tensor:
    """Images whose background has zero mean and unit deviation by `background_statistics`."""
    mean, sd = preprocess.background_statistics(images, radius_px)
    return (images - mean[:, None, None]) / sd[:, None, None]


@pytest.mark.parametrize("n", [31, 32])
def test_background_has_zero_mean_and_unit_deviation(n: int) -> None:
    normalised = _normalised(_images(n), BACKGROUND_FRACTION * n / 2)
    axis = torch.arange(n) - n // 2
    outside = normalised[:, (axis[:, None] ** 2 + axis**2).sqrt() > 0.75 * n / 2]
    torch.testing.assert_close(outside.mean(dim=1), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(outside.std(dim=1, correction=0), torch.ones(5), atol=1e-4, rtol=0)
    assert (normalised[:, n // 2, n // 2] > 2).all()


@pytest.mark.oracle
@pytest.mark.parametrize("remove_ramp", [False, True])
def test_normalisation_agrees_with_relion(
    relion: Callable[[str], Path],
    tmp_path: Path,
    remove_ramp: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    images = _images(32) + 0.4 * torch.arange(32)
    theirs = _relion_preprocess(
        relion, tmp_path, images, "--norm", "--bg_radius", "11", *["--no_ramp"][remove_ramp:]
    )
    ours = preprocess.subtract_ramp(images, 11.0) if remove_ramp else images
    np.testing.assert_allclose(_normalised(ours, 11.0).numpy(), theirs, atol=1e-3)


def test_circle_that_leaves_no_background_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves no background"):
        preprocess.background_mask(16, 20.0)


def test_ramp_is_removed_and_the_molecule_stays() -> None:
    images = _normalised(_images(48), 18.0)
    axis = torch.arange(48.0) - 24
    tilted = images + 0.3 * axis - 0.7 * axis[:, None] + 11
    torch.testing.assert_close(
        preprocess.subtract_ramp(tilted, 18.0),
        preprocess.subtract_ramp(images, 18.0),
        atol=1e-3,
        rtol=0,
    )
    # Noise holds only a little ramp of its own.
    assert (preprocess.subtract_ramp(tilted, 18.0) - images).abs().mean() < 0.2


def test_fourier_cropping_keeps_the_mean_and_thins_the_noise() -> None:
    images = torch.randn(20, 64, 64, generator=torch.Generator().manual_seed(0)) + 4
    cropped = preprocess.fourier_crop_images(images, 32)
    torch.testing.assert_close(cropped.mean(dim=(1, 2)), images.mean(dim=(1, 2)), atol=1e-5, rtol=0)
    assert cropped.std() == pytest.approx(0.5, abs=0.02)


@pytest.mark.oracle
@pytest.mark.parametrize("box", [30, 32, 40])
def test_fourier_cropping_agrees_with_relion_below_nyquist(
    relion: Callable[[str], Path], tmp_path: Path, box: int
) -> None:
    images = _images(64)
    theirs = fourier.centred_rfft2(
        torch.from_numpy(_relion_preprocess(relion, tmp_path, images, "--scale", str(box)))
    )
    ours = fourier.centred_rfft2(preprocess.fourier_crop_images(images, box))
    below = [row for row in range(box) if row != box // 2]
    torch.testing.assert_close(ours[:, below, :-1], theirs[:, below, :-1], atol=0.5, rtol=1e-4)


def _relion_preprocess(
    relion: Callable[[str], Path], folder: Path, images: torch.Tensor, *options: str
) -> NDArray[np.float32]:
    write_stack(folder / "raw.mrcs", images.numpy(), 2.0)
    command = [
        str(relion("relion_preprocess")),
        "--operate_on",
        "raw.mrcs",
        "--operate_out",
        "out.mrcs",
        *options,
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return ImageStack(folder / "out.mrcs")[:]
