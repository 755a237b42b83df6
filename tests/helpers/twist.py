"""A motion that turns each place about the x axis, the further along it the more: smooth, large,
and with an inverse that is known."""

from __future__ import annotations

import torch
from torch import Tensor

from kinesphere.motion.base import Motion

RADIANS_AN_ANGSTROM = 0.02
"""At z = 1: places 40 Å apart along x turn by 46° against each other."""


def twist(points: Tensor, z: Tensor) -> Tensor:
    """Turn points (q, 3) by each of z (k, 1); (k, q, 3)."""
    x, y, height = points.unbind(-1)
    angle = RADIANS_AN_ANGSTROM * z * x
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack(
        [x.expand(len(z), -1), cosine * y - sine * height, sine * y + cosine * height], -1
    )


class Twist(Motion):
    """Moves points by where they are."""

    def move(self, z: Tensor, points: Tensor, owner: Tensor) -> Tensor:  # noqa: ARG002 - places move, not residues
        return twist(points, z)

    def memberships(self) -> Tensor:
        return torch.ones(len(self.reference), 1)
