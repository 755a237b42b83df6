"""Half sets drawn from a seed: equal, reproducible, independent, and true to the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinesphere.particles import ParticleSet, assign_halves


@pytest.fixture
def particles(make_particles: Callable[..., ParticleSet]) -> ParticleSet:
    """Hold 101 particles without half sets."""
    noise = np.random.default_rng(0).normal(size=(101, 4, 4)).astype(np.float32)
    return make_particles((noise, 2.0))


def test_halves_are_equal_random_and_reproducible(particles: ParticleSet) -> None:
    one, same, other = (assign_halves(particles, seed).half for seed in (1, 1, 2))
    assert np.bincount(one).tolist() == [0, 51, 50]
    np.testing.assert_array_equal(one, same)
    assert 0.2 < (one != other).mean() < 0.8
    assert abs(np.corrcoef(one, np.arange(101))[0, 1]) < 0.3


def test_halves_of_the_file_stay(particles: ParticleSet) -> None:
    given = np.zeros(101, dtype=np.int64)
    given[:30], given[30:40] = 2, 1
    half = assign_halves(replace(particles, half=given), 0).half
    np.testing.assert_array_equal(half[:40], given[:40])
    assert sorted(np.bincount(half)[1:].tolist()) == [50, 51]
    full = replace(particles, half=np.tile([1, 2], 51)[:101])
    assert assign_halves(full, 0) is full


def test_copies_of_an_image_share_their_half(particles: ParticleSet) -> None:
    repeated = particles[np.concatenate([np.arange(101), np.arange(101), np.arange(50)])]
    half = assign_halves(repeated, 3).half
    np.testing.assert_array_equal(half[:101], half[101:202])
    np.testing.assert_array_equal(half[:50], half[202:])
    first_known = replace(
        repeated, half=np.concatenate([np.full(101, 2), np.zeros(151, dtype=np.int64)])
    )
    np.testing.assert_array_equal(assign_halves(first_known, 3).half, 2)


def test_halves_are_recorded(particles: ParticleSet, tmp_path: Path) -> None:
    halved = assign_halves(particles, 5)
    halved[10:60].write_star(tmp_path / "halves.star")
    np.testing.assert_array_equal(
        ParticleSet.read(tmp_path / "halves.star").half, halved.half[10:60]
    )
