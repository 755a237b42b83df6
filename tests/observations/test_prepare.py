"""From files to coefficients: each is what a sum over pixels says, wherever it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere.errors import InputError
from kinesphere.observations.coefficient_cache import CACHE_FILE
from kinesphere.observations.coefficients import from_half, to_half
from kinesphere.observations.options import ImagesConfig
from kinesphere.observations.prepare import _own_batches, prepare_images, write_cache
from kinesphere.particles import ParticleSet
from kinesphere.ranks import Ranks

BOX, PIXEL_ANGSTROM, N_IMAGES = 16, 2.0, 9
AS_STORED = ImagesConfig(normalise=False, coefficients="exact", resolution_angstrom=4.0)
Write = Callable[..., ParticleSet]


def noise(n: int = N_IMAGES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, BOX, BOX)).astype(np.float32)


def test_coefficients_are_sums_over_pixels_about_the_molecules_centre(
    write_particles: Write, tmp_path: Path
) -> None:
    """Reference: Σ image(x, y) exp(−2πi (k·r) / box), r in pixels from the molecule's centre."""
    shifts = np.random.default_rng(1).uniform(-2, 2, (N_IMAGES, 2))
    images = noise()
    prepared = prepare_images(write_particles(tmp_path, images, shifts), AS_STORED, tmp_path)
    place = np.arange(BOX) - BOX // 2
    band = prepared.band
    for image, shift, coefficients in zip(images, shifts, prepared.exact, strict=True):
        x = (place - shift[0])[None, :]
        y = (place - shift[1])[:, None]
        for kx, ky, value in zip(
            band.column.tolist(), band.row.tolist(), coefficients.tolist(), strict=True
        ):
            wave = np.exp(-2j * np.pi * (kx * x + ky * y) / BOX)
            assert value == pytest.approx((image * wave).sum(), abs=2e-4)


def test_where_the_molecule_lies_in_its_box_does_not_matter(
    write_particles: Write, tmp_path: Path
) -> None:
    images = noise()
    shifts = np.array([[k % 3 - 1, k // 3 - 1] for k in range(N_IMAGES)])
    moved = np.stack(
        [np.roll(image, (y, x), (0, 1)) for image, (x, y) in zip(images, shifts, strict=True)]
    )
    centred = prepare_images(write_particles(tmp_path / "a", images), AS_STORED, tmp_path)
    shifted = prepare_images(write_particles(tmp_path / "b", moved, shifts), AS_STORED, tmp_path)
    torch.testing.assert_close(shifted.exact, centred.exact, atol=1e-4, rtol=0)


def test_normalised_images_do_not_depend_on_offset_and_scale(
    write_particles: Write, tmp_path: Path
) -> None:
    config = replace(AS_STORED, normalise=True)
    plain = prepare_images(write_particles(tmp_path / "a", noise()), config, tmp_path)
    scaled = prepare_images(write_particles(tmp_path / "b", 7 * noise() + 3), config, tmp_path)
    torch.testing.assert_close(scaled.exact, plain.exact, atol=1e-4, rtol=0)
    dark = prepare_images(
        write_particles(tmp_path / "c", -noise()), replace(config, invert_contrast=True), tmp_path
    )
    torch.testing.assert_close(dark.exact, plain.exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_kept_as_float16_they_are_the_exact_ones_rounded(
    write_particles: Write, tmp_path: Path, place: str
) -> None:
    particles = write_particles(tmp_path, noise())
    exact = prepare_images(particles, AS_STORED, tmp_path).exact
    kept = prepare_images(particles, replace(AS_STORED, coefficients=place), tmp_path)
    found = kept.batch(torch.arange(N_IMAGES)).data
    torch.testing.assert_close(found, from_half(*to_half(exact)), atol=0, rtol=0)
    assert (kept.pages is not None) == (place == "disk")
    assert {path.name for path in tmp_path.iterdir()} == {"images.mrcs", "particles.star"}


def test_resolution_is_where_the_band_ends(write_particles: Write, tmp_path: Path) -> None:
    particles = write_particles(tmp_path, noise())
    fine = prepare_images(particles, AS_STORED, tmp_path)
    coarse = prepare_images(particles, replace(AS_STORED, resolution_angstrom=6.4), tmp_path)
    assert fine.band.n_shells == BOX // 2 - 1  # Nyquist is at 4 Å
    assert coarse.band.n_shells == 5  # 32 Å / 5 = 6.4 Å
    assert torch.equal(coarse.exact, fine.exact[:, : len(coarse.band)])


def test_a_cache_gives_what_preparing_gives(write_particles: Write, tmp_path: Path) -> None:
    particles = write_particles(tmp_path / "particles", noise())
    band = write_cache(particles, AS_STORED, tmp_path / CACHE_FILE)
    cached = prepare_images(
        particles, replace(AS_STORED, coefficients="auto", cache=tmp_path / CACHE_FILE), tmp_path
    )
    here = prepare_images(particles, replace(AS_STORED, coefficients="memory"), tmp_path)
    rows = torch.arange(N_IMAGES)
    assert torch.equal(cached.batch(rows).data, here.batch(rows).data)
    assert len(band) == len(cached.band)
    other = write_particles(tmp_path / "other", noise(seed=5))
    with pytest.raises(InputError, match="other images"):
        prepare_images(
            other, replace(AS_STORED, coefficients="auto", cache=tmp_path / CACHE_FILE), tmp_path
        )


@pytest.mark.parametrize(
    ("gigabytes", "storage"),
    [(1.0, "float32 in memory"), (6e-6, "float16 in memory"), (1e-6, "float16 on disk")],
)
def test_memory_decides_where_nobody_says(
    write_particles: Write, tmp_path: Path, gigabytes: float, storage: str
) -> None:
    config = replace(AS_STORED, coefficients="auto", memory_gigabytes=gigabytes)
    assert storage in prepare_images(write_particles(tmp_path, noise()), config, tmp_path).storage


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(AS_STORED, coefficients="gpu"), "gpu asks for a GPU, and none is used"),
        (replace(AS_STORED, cache=Path("x")), "exact cannot be had from --cache"),
    ],
)
def test_a_place_that_cannot_be_is_refused(
    write_particles: Write, tmp_path: Path, config: ImagesConfig, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        prepare_images(write_particles(tmp_path, noise()), config, tmp_path)


def test_a_set_without_particles_or_poses_is_refused(
    write_particles: Write, tmp_path: Path
) -> None:
    particles = write_particles(tmp_path, noise())
    with pytest.raises(InputError, match="has no particles"):
        prepare_images(particles[np.zeros(N_IMAGES, dtype=bool)], AS_STORED, tmp_path)
    text = (tmp_path / "particles.star").read_text()
    (tmp_path / "unposed.star").write_text(text.replace("rlnAngleRot", "rlnRandomColumn"))
    with pytest.raises(InputError, match=r"unposed\.star"):
        prepare_images(ParticleSet.read(tmp_path / "unposed.star"), AS_STORED, tmp_path)


def test_progress_counts_every_image(write_particles: Write, tmp_path: Path) -> None:
    steps: list[int] = []
    prepare_images(write_particles(tmp_path, noise()), AS_STORED, tmp_path, steps.append)
    assert sum(steps) == N_IMAGES


@pytest.mark.parametrize("n_images", [1, 256, 1000, 2049])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_ranks_prepare_every_batch_once(n_images: int, size: int) -> None:
    parts = [_own_batches(n_images, Ranks(rank, size, rank, (0,))) for rank in range(size)]
    assert [batch for part in parts for batch in part] == list(range(-(-n_images // 256)))
