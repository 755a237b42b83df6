"""Batches that ranks share: each has its images, and random numbers that do not depend on how many
share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.observations.observations import Observations, ParticleBatch
from kinesphere.observations.order import images_a_window
from kinesphere.observations.read_ahead import serve
from kinesphere.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Draws:
    """Random numbers for the images of a batch: every rank draws those of the whole batch, and
    keeps its own images'.

    So the generators of all ranks stay in the same state, and an image meets the same numbers
    whichever rank it is on.

    Parameters
    ----------
    generator
        In the same state on all ranks.
    n_images
        Images in the whole batch, of which this rank has `ranks.share`.
    ranks
        Who shares it.
    """

    generator: torch.Generator
    n_images: int
    ranks: Ranks = ALONE

    @property
    def is_idle(self) -> bool:
        """Whether the batch has fewer images than there are ranks, and none for this one."""
        return self.ranks.rank >= self.n_images

    @property
    def weight(self) -> float:
        """Factor on what this rank's images add to the loss."""
        return 0.0 if self.is_idle else 1.0

    def own(self, values: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "b ..."]:
        """Take this rank's share of what has a row an image; an idle rank takes the first image,
        without weight.

        So no part of the model has to know what to do with no image at all.
        """
        own: Tensor = values[:1] if self.is_idle else self.ranks.share(values)
        return own

    def uniform(self, *shape: int) -> Float[Tensor, "b ..."]:
        """Draw from [0, 1) for each of this rank's images."""
        return self.own(torch.rand(self.n_images, *shape, generator=self.generator))

    def normal(self, *shape: int) -> Float[Tensor, "b ..."]:
        """Draw from N(0, 1) for each of this rank's images."""
        return self.own(torch.randn(self.n_images, *shape, generator=self.generator))

    def some(self, n: int, n_chosen: int) -> Int[Tensor, " k"]:
        """Choose some of n things at random, the same on all ranks."""
        return torch.randperm(n, generator=self.generator)[:n_chosen]


def serve_shares(
    observations: Observations,
    batches: Sequence[Int[Tensor, " _"]],
    generator: torch.Generator,
    ranks: Ranks,
    band: FourierBand | None = None,
    device: torch.device | str = "cpu",
    *,
    first: int = 0,
) -> Iterator[tuple[ParticleBatch, Draws]]:
    """Serve this rank's share of the batches of a pass, each with the random numbers of the whole
    batch.

    Parameters
    ----------
    observations, batches, band, device, first
        As for `read_ahead.serve`; the batches are those of all ranks.
    generator, ranks
        As for `Draws`.
    """
    draws = [Draws(generator, len(rows), ranks) for rows in batches]
    own = [draw.own(rows) for draw, rows in zip(draws, batches, strict=True)]
    window = max(
        images_a_window(len(observations.band)) // ranks.size, 1
    )  # together the ranks have one in memory
    yield from zip(
        serve(observations, own, band, device, first=first, window=window),
        draws[first:],
        strict=True,
    )
