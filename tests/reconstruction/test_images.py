"""Images weighted by CTF and noise, and the noise found in their background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinesphere.fourier import centred_rfft2, fourier_grid, radial_average
from kinesphere.imaging.ctf import evaluate_ctf
from kinesphere.particles import ParticleSet
from kinesphere.particles.ctf_parameters import ctf_parameters
from kinesphere.particles.streaming import ImageLoader, LoaderOptions
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.simulate.dataset import write_dataset
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.noise import noise_power as simulated_power
from kinesphere.simulate.recipe import Recipe

BOX, PIXEL_ANGSTROM = 48, 2.5


def simulate(folder: Path, **options: Any) -> tuple[Recipe, ParticleSet, ImageLoader]:
    recipe = Recipe(n=400, box=BOX, pixel_size=PIXEL_ANGSTROM, snr=0.02, seed=3, **options)
    write_dataset(folder, adenylate_kinase(1).centred(), recipe, "A test.")
    particles = ParticleSet.read(folder / "particles.star")
    return recipe, particles, ImageLoader(particles, LoaderOptions(shuffle=False, normalise=False))


def test_white_noise_has_the_power_of_its_variance(tmp_path: Path) -> None:
    _, particles, loader = simulate(tmp_path)
    found = noise_power(particles, loader, np.arange(400), 64)
    images = loader.load(np.arange(400))
    corner = images[:, :6, :6].var().item()
    assert found[0, 2:-1].numpy() == pytest.approx(np.full(BOX // 2 - 2, BOX**2 * corner), rel=0.1)


def test_coloured_noise_is_found_in_every_shell_and_group(tmp_path: Path) -> None:
    recipe, particles, loader = simulate(tmp_path, noise="coloured", optics_groups=2)
    found = noise_power(particles, loader, np.arange(400), 64)
    expected = radial_average(torch.from_numpy(simulated_power(recipe)).float(), BOX)
    assert found.shape == (2, BOX // 2 + 1)
    for group in range(2):
        ratio = (found[group] / expected)[3 : BOX // 2 - 1]
        assert (ratio / ratio.mean()).numpy() == pytest.approx(np.ones(len(ratio)), rel=0.15)
    assert float(expected[3] / expected[-3]) > 3.0  # it is coloured


def test_half_sets_have_their_own_noise(tmp_path: Path) -> None:
    _, particles, loader = simulate(tmp_path)
    first, second = (
        noise_power(particles, loader, np.flatnonzero(particles.half == half), 64)
        for half in (1, 2)
    )
    assert not torch.equal(first, second)
    assert (first / second)[:, 2:].numpy() == pytest.approx(np.ones((1, BOX // 2 - 1)), rel=0.1)


def test_batches_are_shifted_back_and_weighted(tmp_path: Path) -> None:
    _, particles, loader = simulate(tmp_path)
    power = torch.linspace(1.0, 3.0, BOX // 2 + 1)[None] * 7.0
    images = WeightedImages(particles, loader, power)
    rows = np.array([5, 17])
    batch = images.batch(rows)
    ky, kx = fourier_grid(BOX)
    shell = torch.round(torch.hypot(ky, kx) * BOX)
    inside = shell < BOX // 2
    ctf = evaluate_ctf(ctf_parameters(particles, rows), BOX, PIXEL_ANGSTROM)
    for number, row in enumerate(rows):
        shift = particles.shift_angstrom[row] / PIXEL_ANGSTROM
        phase = torch.exp(2j * torch.pi * (kx * shift[0] + ky * shift[1]))
        centred = centred_rfft2(loader.load([row]))[0] * phase
        weight = ctf[number] / (7.0 * (1.0 + 2.0 * shell / (BOX // 2)))
        assert torch.allclose(batch.data[number][inside], (centred * weight)[inside], atol=1e-3)
        assert torch.allclose(
            batch.precision[number][inside], (ctf[number] * weight)[inside], atol=1e-5
        )
    assert not batch.data[:, ~inside].any()
    precision, rotation = images.geometry(rows)
    assert torch.allclose(precision, batch.precision)
    assert torch.equal(rotation, batch.rotation)
