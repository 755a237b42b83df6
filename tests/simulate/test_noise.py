"""Noise has the spectrum asked for, and variance one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.simulated import SMALL
from kinesphere.simulate.noise import draw_noise, noise_power


def test_coloured_noise_has_the_spectrum_asked_for() -> None:
    recipe = replace(SMALL, noise="coloured", noise_frequency=0.03, noise_exponent=3.0)
    power = noise_power(recipe)
    noise = draw_noise(np.random.default_rng(0), 4000, power)
    assert noise.var() == pytest.approx(1.0, rel=0.02)
    measured = (np.abs(np.fft.rfft2(noise)) ** 2).mean(axis=0) / SMALL.box**2
    assert measured == pytest.approx(power, rel=0.12)
    frequency = np.abs(np.fft.fftfreq(SMALL.box, SMALL.pixel_size))
    assert power[3, 0] / power[10, 0] == pytest.approx(
        (1 + (frequency[10] / 0.03) ** 3) / (1 + (frequency[3] / 0.03) ** 3)
    )


def test_white_noise_is_flat_with_variance_one() -> None:
    power = noise_power(SMALL)
    assert np.array_equal(power, np.ones((SMALL.box, SMALL.box // 2 + 1)))
    noise = draw_noise(np.random.default_rng(0), 400, power)
    assert noise.var() == pytest.approx(1.0, rel=0.01)
    neighbours = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.01
