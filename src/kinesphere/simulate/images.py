"""Clean images: the potential of each particle's state, projected in its pose, shifted, seen
through its CTF.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from kinesphere.fourier import centred_irfft2, shift_fourier
from kinesphere.imaging.ctf import evaluate_ctf
from kinesphere.simulate.draws import SimulatedParticles
from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.recipe import Recipe
from kinesphere.simulate.scattering import AtomProjector

_COORDINATES_AT_ONCE = 60_000
_PIXELS_AT_ONCE = 1_000_000


def clean_images(
    ensemble: Ensemble, particles: SimulatedParticles, recipe: Recipe
) -> Iterator[NDArray[np.float32]]:
    """Image the particles without noise, batch by batch in order.

    Image = crop [ F⁻¹ ( CTF · exp(−2πi k·t) · Σⱼ fⱼ(k) exp(−2πi k·(Rᵀ xⱼ)) ) ], in a box
    `recipe.padding` times larger.

    Parameters
    ----------
    ensemble
        States, the box centre at zero.
    particles
        State, pose and CTF of each particle.
    recipe
        Box, pixel size, B-factor, microscope.

    Yields
    ------
    ndarray
        (b, box, box) float32 in 1/Å: line integrals of the potential over 47.878 V Å², protein
        positive.
    """
    box = recipe.box
    padded = recipe.box * recipe.padding
    project = AtomProjector(
        ensemble.model.atomic_number, padded, recipe.pixel_size, recipe.b_factor
    )
    corner = padded // 2 - box // 2
    batch = batch_size(ensemble.model.n_atoms, padded)
    for first in range(0, recipe.n, batch):
        rows = slice(first, min(first + batch, recipe.n))
        positions = torch.from_numpy(ensemble.positions[particles.state[rows]])
        transform = project(positions, torch.from_numpy(particles.rotation[rows]))
        shift_px = torch.from_numpy(particles.shift_angstrom[rows] / recipe.pixel_size).float()
        seen = shift_fourier(transform, shift_px) * evaluate_ctf(
            particles.ctf(rows, recipe), padded, recipe.pixel_size
        )
        images = centred_irfft2(seen, padded) / recipe.pixel_size**2
        yield images[:, corner : corner + box, corner : corner + box].contiguous().numpy()


def batch_size(n_atoms: int, padded_box: int) -> int:
    """Images to project at once, for tens of megabytes of scratch memory."""
    return max(1, min(_COORDINATES_AT_ONCE // n_atoms, _PIXELS_AT_ONCE // padded_box**2))
