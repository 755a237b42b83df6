"""Independent half sets: as the file gives them, else drawn from a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinesphere.particles.particle_set import ParticleSet


def assign_halves(particles: ParticleSet, seed: int) -> ParticleSet:
    """Give each particle without a half set one, keeping those that the file gives.

    Entries that share an image (duplicates) go to the same half, since the halves would not be
    independent otherwise. The numbers of the two halves come out as equal as that allows.

    Parameters
    ----------
    particles
        The set.
    seed
        Of the draw; the same set and seed give the same halves.

    Returns
    -------
    ParticleSet
        `half` is 1 or 2 throughout; `write_star` records it as `rlnRandomSubset` where anything was
        drawn.
    """
    free = particles.half == 0
    if not free.any():
        return particles
    keys = np.stack([particles.image_file, particles.image_slot], axis=1)
    _, image = np.unique(keys, axis=0, return_inverse=True)
    half = _follow_duplicates(particles.half, image.ravel())
    open_images = np.unique(image.ravel()[half == 0])
    n_of_each = np.array([(half == 1).sum(), (half == 2).sum()])
    counts = np.bincount(image.ravel())
    drawn = np.zeros(counts.size, dtype=np.int64)
    for number in np.random.default_rng(seed).permutation(open_images):
        drawn[number] = 1 + int(n_of_each[1] < n_of_each[0])
        n_of_each[drawn[number] - 1] += counts[number]
    half = np.where(half == 0, drawn[image.ravel()], half)
    return replace(
        particles, half=half, new_columns={**particles.new_columns, "rlnRandomSubset": half}
    )


def _follow_duplicates(half: NDArray[np.int64], image: NDArray[np.intp]) -> NDArray[np.int64]:
    """Give entries without a half the one that another entry of the same image has."""
    known = np.zeros(image.max() + 1, dtype=np.int64)
    np.maximum.at(known, image, half)
    followed: NDArray[np.int64] = np.where(half == 0, known[image], half)
    return followed
