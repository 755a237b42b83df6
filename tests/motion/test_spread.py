"""Centres spread over points."""

from __future__ import annotations

import torch

from kinesphere.motion.spread import spread_centres


def test_centres_divide_a_box_evenly_and_own_their_nearest_points() -> None:
    points = 100.0 * torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    centres, owner = spread_centres(points, 8)
    sizes = torch.bincount(owner, minlength=8)
    assert int(sizes.min()) > 0.6 * len(points) / 8
    assert torch.equal(owner, torch.cdist(points, centres).argmin(1))
    means = torch.stack([points[owner == m].mean(0) for m in range(8)])
    assert float((means - centres).norm(dim=1).max()) < 5.0
