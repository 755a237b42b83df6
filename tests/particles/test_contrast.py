"""The sign of the molecule, told from the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinesphere.fourier import centred_irfft2, centred_rfft2, shift_fourier
from kinesphere.imaging.ctf import CtfParameters, evaluate_ctf
from kinesphere.particles import ParticleSet
from kinesphere.particles.contrast import estimate_contrast_sign

MakeParticles = Callable[..., ParticleSet]
SHIFT_PX = (4.0, -3.0)


def _images(
    count: int, box: int, pixel_size: float, amplitude: float, seed: int = 0
) -> NDArray[np.float32]:
    """A blob of 25 Å off the centre, seen through the CTF of the test STAR file, under noise of
    unit variance."""
    axis = (torch.arange(box) - box // 2) * pixel_size
    blob = torch.exp(-(axis**2 + axis[:, None] ** 2) / (2 * 25.0**2))
    values = (15000.0, 14500.0, np.deg2rad(30.0), 0.0, 300.0, 2.7, 0.1, 0.0, 1.0)
    ctf = evaluate_ctf(CtfParameters(*(torch.tensor([float(v)]) for v in values)), box, pixel_size)
    shifted = shift_fourier(centred_rfft2(blob)[None] * ctf, torch.tensor([SHIFT_PX]))
    noise = np.random.default_rng(seed).standard_normal((count, box, box))
    return (amplitude * centred_irfft2(shifted, box).numpy() + noise).astype(np.float32)


@pytest.mark.parametrize("sign", [1, -1])
def test_blob_under_noise_is_found_with_its_sign(make_particles: MakeParticles, sign: int) -> None:
    particles = make_particles((_images(200, 48, 4.0, 0.6 * sign), 4.0), shifts_px=SHIFT_PX)
    estimate = estimate_contrast_sign(particles)
    assert estimate.sign == sign
    assert estimate.confidence > 0.999
    assert estimate.z_score * sign > 5
    assert ("bright" if sign > 0 else "--invert-contrast") in estimate.statement


def test_noise_alone_is_undecided(make_particles: MakeParticles) -> None:
    for seed in range(5):
        particles = make_particles((_images(200, 32, 4.0, 0.0, seed), 4.0))
        assert estimate_contrast_sign(particles).sign == 0


def test_optics_groups_add_up(make_particles: MakeParticles) -> None:
    groups = [(_images(100, 48, 4.0, 0.5), 4.0), (_images(100, 100, 2.0, 0.5, 1), 2.0)]
    both = estimate_contrast_sign(make_particles(*groups))
    assert both.sign == 1
    assert both.n_images == 200


def test_a_single_image_is_undecided_rather_than_certain(make_particles: MakeParticles) -> None:
    estimate = estimate_contrast_sign(make_particles((_images(1, 32, 4.0, 5.0), 4.0)))
    assert (estimate.sign, estimate.z_score) == (0, 0.0)


@pytest.mark.parametrize("name", ["adk", "igg", "null", "ribosome-real"])
def test_sets_of_other_programs_are_bright_and_dark_when_inverted(
    shared_data: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    particles = ParticleSet.read(shared_data(name) / "particles.star")
    assert estimate_contrast_sign(particles, 300).z_score > 10
    read = ParticleSet.images
    monkeypatch.setattr(ParticleSet, "images", lambda self, rows: -read(self, rows))
    assert estimate_contrast_sign(particles, 300).sign == -1
