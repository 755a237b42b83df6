"""A processed copy of a particle set shows the same particles on other pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere.errors import InputError
from kinesphere.particles import ParticleSet
from kinesphere.particles.options import LoaderOptions
from kinesphere.particles.preprocess import fourier_crop_images
from kinesphere.particles.restack import STAR_FILE, restack

CROPPED = LoaderOptions(batch_size=2, box_px=8, normalise=False)


@pytest.fixture
def particles(make_particles: Callable[..., ParticleSet]) -> ParticleSet:
    images = np.random.default_rng(0).standard_normal((5, 16, 16)).astype(np.float32)
    return make_particles((images, 1.5), shifts_px=(2.0, -1.0))


def test_images_are_processed_in_order_and_poses_stay(
    particles: ParticleSet, tmp_path: Path
) -> None:
    steps: list[int] = []
    grid = restack(particles, tmp_path / "out", CROPPED, progress=steps.append)
    assert (grid.box_px, grid.pixel_size_angstrom) == (8, 3.0)
    assert steps == [2, 2, 1]
    copy = ParticleSet.read(tmp_path / "out" / STAR_FILE)
    expected = fourier_crop_images(torch.from_numpy(particles.images(np.arange(5))), 8)
    np.testing.assert_allclose(copy.images(np.arange(5)), expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(copy.rotation, particles.rotation)
    np.testing.assert_allclose(copy.shift_angstrom, particles.shift_angstrom)
    assert [group.pixel_size_angstrom for group in copy.optics] == [3.0]


def test_an_earlier_result_and_the_input_are_safe(particles: ParticleSet, tmp_path: Path) -> None:
    restack(particles, tmp_path / "out", CROPPED)
    with pytest.raises(InputError, match="is there already"):
        restack(particles, tmp_path / "out", CROPPED)
    restack(particles, tmp_path / "out", CROPPED, overwrite=True)
    with pytest.raises(InputError, match="holds the particles to be processed"):
        restack(particles, tmp_path, CROPPED, overwrite=True)


def test_a_missing_stack_ends_it_before_anything_is_written(
    particles: ParticleSet, tmp_path: Path
) -> None:
    (tmp_path / "group1.mrcs").unlink()
    with pytest.raises(InputError, match=r"group1\.mrcs"):
        restack(ParticleSet.read(particles.source), tmp_path / "out", CROPPED)
    assert not (tmp_path / "out").exists()
