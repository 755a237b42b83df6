"""A batch as all ranks see it: its size, and random numbers that do not depend on how many ranks share it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from kinesphere.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Draws:
    """Random numbers for the images of a batch: every rank draws those of the whole batch, and keeps its own images'.

    So the generators of all ranks stay in the same state, and an image meets the same numbers whichever rank it is on.

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
        """Take this rank's share of what has a row an image; an idle rank takes the first image, without weight.

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
