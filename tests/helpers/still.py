"""A motion model that moves nothing, for what needs latent positions but no structures."""

from __future__ import annotations

import torch

from kinesphere.inference.decoder import Decoded
from kinesphere.motion.base import Motion, States


class Still(Motion):
    """One point that stays where it is."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(torch.zeros(1, 3), latent_dim)

    def move(self, z: torch.Tensor, points: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - nothing belongs to anything
        return points.expand(len(z), -1, -1)

    def memberships(self) -> torch.Tensor:
        return torch.ones(1, 1)


def undecoded(z: torch.Tensor) -> Decoded:
    """Give latent positions the form of decoded ones."""
    return Decoded(States(Still(z.shape[1]), z), torch.zeros(len(z), 1, 3))
