"""Two halves of an image's Fourier coefficients whose noise is independent, and coefficients with
random phases.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand


def first_of_mates(band: FourierBand) -> Int[Tensor, " m"]:
    """Index of the coefficient that stands for each: itself, or its Friedel mate where the band
    holds both.

    The half plane keeps k and −k on its column kx = 0 only; there the mate with ky > 0 stands for
    both.
    """
    at = {
        (r, c): i
        for i, (r, c) in enumerate(zip(band.row.tolist(), band.column.tolist(), strict=True))
    }
    stands_for = [
        at[-r, c] if c == 0 and r < 0 else i
        for i, (r, c) in enumerate(zip(band.row.tolist(), band.column.tolist(), strict=True))
    ]
    return torch.tensor(stands_for)


def split_coefficients(
    band: FourierBand, n_images: int, generator: torch.Generator
) -> Bool[Tensor, "n m"]:
    """Draw, for each image, which coefficients are in set A; the others are B. Friedel mates stay
    together.

    Parameters
    ----------
    band
        The coefficients.
    n_images
        Number of images.
    generator
        Source of the draw.

    Returns
    -------
    Tensor
        (n, m) true in A: each coefficient with probability ½.
    """
    return (torch.rand(n_images, len(band), generator=generator) < 0.5)[:, first_of_mates(band)]


def randomise_phases(
    data: Complex[Tensor, "n m"],
    band: FourierBand,
    generator: torch.Generator,
    resolution_angstrom: float | None,
) -> Complex[Tensor, "n m"]:
    """Give coefficients beyond a resolution random phases, and keep their amplitudes; none: all of
    them.

    What is left is noise of the power of the images (Chen et al. 2013,
    doi:10.1016/j.ultramic.2013.06.004, do the same to tell what an FSC owes to over-fitting).
    """
    stands_for = first_of_mates(band)
    angle = (2.0 * torch.pi * torch.rand(data.shape, generator=generator))[:, stands_for]
    sign = torch.where(
        stands_for == torch.arange(len(band)), 1.0, -1.0
    )  # X(−k) is the conjugate of X(k)
    if resolution_angstrom is not None:
        sign = sign * (band.shell > band.field_of_view_angstrom / resolution_angstrom)
    angle = angle * sign
    return data * torch.polar(torch.ones_like(angle), angle)
