"""Batches of images: complete, reproducible, resumable, and flat in memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.fourier import centred_rfft2
from kinesphere.particles import ParticleSet
from kinesphere.particles.streaming import ImageBatch, ImageLoader, LoaderOptions

MakeParticles = Callable[..., ParticleSet]


def _noise(count: int, box: int = 16, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(3, 2, (count, box, box)).astype(np.float32)


def _blob(box: int, pixel_size: float, x: float, y: float, sigma: float) -> NDArray[np.float32]:
    axis = (np.arange(box) - box // 2) * pixel_size
    return np.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def _joined(batches: list[ImageBatch]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([batch.rows for batch in batches]), torch.cat(
        [batch.images for batch in batches]
    )


def test_an_epoch_serves_every_image_once_the_last_ones_too(make_particles: MakeParticles) -> None:
    images = _noise(23)
    loader = ImageLoader(
        make_particles((images, 2.0)), LoaderOptions(batch_size=5, normalise=False)
    )
    batches = list(loader.epoch(0))
    index, served = _joined(batches)
    assert len(batches) == len(loader) == 5
    assert sorted(index.tolist()) == list(range(23))
    np.testing.assert_array_equal(served.numpy(), images[index.numpy()])


def test_the_order_follows_from_seed_and_epoch_alone(make_particles: MakeParticles) -> None:
    particles = make_particles((_noise(23), 2.0))
    loader = ImageLoader(particles, LoaderOptions(batch_size=5, seed=4))
    again = ImageLoader(particles, LoaderOptions(batch_size=5, seed=4))
    other = ImageLoader(particles, LoaderOptions(batch_size=5, seed=5))
    np.testing.assert_array_equal(loader.order(7), again.order(7))
    assert (loader.order(7) != loader.order(8)).any()
    assert (loader.order(7) != other.order(7)).any()


@pytest.mark.parametrize("prefetch", [0, 3])
def test_an_epoch_can_go_on_where_it_stopped(make_particles: MakeParticles, prefetch: int) -> None:
    loader = ImageLoader(
        make_particles((_noise(23), 2.0)), LoaderOptions(batch_size=5, prefetch=prefetch)
    )
    whole, rest = list(loader.epoch(3)), list(loader.epoch(3, first_batch=2))
    for expected, found in zip(whole[2:], rest, strict=True):
        torch.testing.assert_close(found.rows, expected.rows)
        torch.testing.assert_close(found.images, expected.images, atol=0, rtol=0)


def test_preloading_within_the_budget_changes_nothing_but_the_reading(
    make_particles: MakeParticles,
) -> None:
    particles = make_particles((_noise(23), 2.0))
    needed = 23 * 16 * 16 * 4
    lazy = ImageLoader(particles, LoaderOptions(batch_size=5, preload_bytes=needed - 1))
    preloaded = ImageLoader(particles, LoaderOptions(batch_size=5, preload_bytes=needed))
    assert (lazy.is_preloaded, preloaded.is_preloaded) == (False, True)
    for one, other in zip(lazy.epoch(1), preloaded.epoch(1), strict=True):
        torch.testing.assert_close(one.rows, other.rows)
        torch.testing.assert_close(one.images, other.images, atol=0, rtol=0)


def test_normalised_cropped_and_inverted(make_particles: MakeParticles) -> None:
    images = _noise(6, 32)
    loader = ImageLoader(
        make_particles((images, 2.0)), LoaderOptions(box_px=20, invert_contrast=True)
    )
    served = loader.load(np.arange(6))
    assert served.shape == (6, 20, 20)
    assert loader.grid.pixel_size_angstrom == pytest.approx(3.2)
    axis = torch.arange(20) - 10
    background = served[:, (axis**2 + axis[:, None] ** 2).sqrt() > 7.5]
    torch.testing.assert_close(background.mean(dim=1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(background.std(dim=1, correction=0), torch.ones(6))
    ratio = centred_rfft2(served)[:, 1, 2] / centred_rfft2(torch.from_numpy(images))[:, 1, 2]
    torch.testing.assert_close(ratio.angle().abs(), torch.full((6,), torch.pi), atol=1e-4, rtol=0)


def test_centring_puts_the_molecule_on_the_middle_pixel(make_particles: MakeParticles) -> None:
    image = _blob(48, 2.0, 2 * 3.5, 2 * -2.25, 6.0)[None] + 0.001 * _noise(1, 48)
    particles = make_particles((image.astype(np.float32), 2.0), shifts_px=(3.5, -2.25))
    loader = ImageLoader(particles, LoaderOptions(centre=True, normalise=False, box_px=24))
    np.testing.assert_allclose(loader.load([0])[0].numpy(), _blob(24, 4.0, 0, 0, 6.0), atol=0.01)


def test_groups_of_different_pixels_show_the_same_molecule(make_particles: MakeParticles) -> None:
    groups = [(64, 1.5), (48, 2.0), (54, 1.9)]
    rng = np.random.default_rng(0)
    particles = make_particles(
        *(
            (
                _blob(box, px, 9.0, -15.0, 6.0)[None]
                + rng.normal(0, 1e-3, (3, box, box)).astype(np.float32),
                px,
            )
            for box, px in groups
        )
    )
    loader = ImageLoader(particles, LoaderOptions(batch_size=4, normalise=False))
    assert (loader.grid.box_px, loader.grid.pixel_size_angstrom) == (48, 2.0)
    index, served = _joined(list(loader.epoch(0)))
    assert len(index) == 9
    np.testing.assert_allclose(
        served.numpy(), np.broadcast_to(_blob(48, 2.0, 9.0, -15.0, 6.0), served.shape), atol=0.02
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 5.0])
def test_unusable_image_is_named_also_from_the_background_thread(
    make_particles: MakeParticles, value: float
) -> None:
    images = _noise(12)
    images[7] = value
    loader = ImageLoader(make_particles((images, 2.0)), LoaderOptions(batch_size=3, shuffle=False))
    with pytest.raises(InputError, match="8.*(constant|finite|NaN)"):
        list(loader.epoch(0))


def test_masked_background_is_refused_only_when_it_is_to_be_normalised(
    make_particles: MakeParticles,
) -> None:
    axis = np.arange(16) - 8
    images = _noise(4) * (axis**2 + axis[:, None] ** 2 < 30)
    particles = make_particles((images.astype(np.float32), 2.0))
    with pytest.raises(
        InputError, match="image 1 of group1.mrcs (.row 1.) has a constant background, and 1 more"
    ):
        ImageLoader(particles).load([0, 1])
    assert ImageLoader(particles, LoaderOptions(normalise=False)).load([0, 1]).shape == (2, 16, 16)


def test_leaving_an_epoch_early_ends_its_reader(make_particles: MakeParticles) -> None:
    loader = ImageLoader(make_particles((_noise(40), 2.0)), LoaderOptions(batch_size=2))
    epoch = loader.epoch(0)
    next(epoch)
    epoch.close()  # type: ignore[attr-defined]
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("image-reader")
    ]


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from /proc"
)
def test_memory_does_not_follow_the_number_of_images(make_particles: MakeParticles) -> None:
    """Of 200 MB of images no more may be resident than a few batches of 2 MB and what the allocator
    keeps.

    Measured in a process of its own: here, what other tests left to the allocator may come back at
    any time. Pages of the file that are mapped while a batch is read belong to the system's cache:
    how many, the kernel decides.
    """
    particles = make_particles((np.tile(_noise(64, 64), (192, 1, 1)), 2.0))
    answer = subprocess.run(
        [sys.executable, "-c", _GROWTH_OVER_AN_EPOCH],
        input=pickle.dumps(particles),
        capture_output=True,
        check=True,
    )
    assert int(answer.stdout) < 75e6


_GROWTH_OVER_AN_EPOCH = """
import pickle, re, sys
from pathlib import Path
from kinesphere.particles.streaming import ImageLoader, LoaderOptions

def resident():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

particles, options = pickle.load(sys.stdin.buffer), LoaderOptions(batch_size=128)
list(ImageLoader(particles[:1024], options).epoch(0))
before = resident()
print(max(resident() for _ in ImageLoader(particles, options).epoch(0)) - before)
"""
