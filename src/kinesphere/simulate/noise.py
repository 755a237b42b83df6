"""Noise images, white or coloured, with unit variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinesphere.simulate.recipe import Recipe


def noise_power(recipe: Recipe) -> NDArray[np.float64]:
    """Power of the noise on the half plane, (box, box // 2 + 1), one on average over the full
    plane.

    P(f) ∝ 1 for white noise, 1 / (1 + (f / f0)^p) for coloured noise.
    """
    rows = np.fft.fftfreq(recipe.box, recipe.pixel_size)
    columns = np.fft.rfftfreq(recipe.box, recipe.pixel_size)
    if recipe.noise == "white":
        return np.ones((len(rows), len(columns)))
    all_columns = rows
    half, full = (
        1 / (1 + (np.hypot(rows[:, None], axis) / recipe.noise_frequency) ** recipe.noise_exponent)
        for axis in (columns, all_columns)
    )
    return half / full.mean()


def draw_noise(
    rng: np.random.Generator, n_images: int, power: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Draw (n_images, box, box) Gaussian noise whose spectrum is `power` and whose variance is one.

    Parameters
    ----------
    rng
        Source of randomness.
    n_images
        Number of images.
    power
        (box, box // 2 + 1) from `noise_power`.
    """
    box = len(power)
    white = rng.standard_normal((n_images, box, box), dtype=np.float32)
    if np.ptp(power) == 0:
        return white
    return np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(power), s=(box, box)).astype(np.float32)
