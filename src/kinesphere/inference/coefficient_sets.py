"""Each image's coefficients in two sets of independent noise: what is inferred from one is judged
on the other.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.inference.likelihood import PreparedBatch


def masked(prepared: PreparedBatch, side: Bool[Tensor, "b m"]) -> PreparedBatch:
    """Return a batch of which only some coefficients count.

    Parameters
    ----------
    prepared
        The batch.
    side
        (b, m) those that count.
    """
    data = prepared.data * side
    norm = torch.view_as_real(data).square().sum((1, 2))
    return replace(prepared, data=data, gain=prepared.gain * side, norm=norm)


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
