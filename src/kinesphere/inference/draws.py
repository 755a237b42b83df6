"""A batch as all ranks see it: its size, and random numbers that do not depend on how many ranks share it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
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

    def uniform(self, *shape: int) -> Float[Tensor, "b ..."]:
        """Draw from [0, 1) for each of this rank's images."""
        return self._own(torch.rand(self.n_images, *shape, generator=self.generator))

    def normal(self, *shape: int) -> Float[Tensor, "b ..."]:
        """Draw from N(0, 1) for each of this rank's images."""
        return self._own(torch.randn(self.n_images, *shape, generator=self.generator))

    def some(self, n: int, n_chosen: int) -> Int[Tensor, " k"]:
        """Choose some of n things at random, the same on all ranks."""
        return torch.randperm(n, generator=self.generator)[:n_chosen]

    def _own(self, values: Tensor) -> Tensor:
        own: Tensor = self.ranks.share(values)
        return own
