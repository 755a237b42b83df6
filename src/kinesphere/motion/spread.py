"""Centres that divide points into compact parts of about equal size."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

_LLOYD_ROUNDS = 20


def spread_centres(
    points: Float[Tensor, "p 3"], count: int
) -> tuple[Float[Tensor, "m 3"], Int[Tensor, " p"]]:
    """Spread centres evenly over points: farthest-point start, then k-means.

    Parameters
    ----------
    points
        (n_points, 3) in Å.
    count
        How many centres.

    Returns
    -------
    tuple
        (count, 3) centres, and (n_points,) the one nearest each point.
    """
    places = points.cpu().double().numpy()
    chosen = [int(np.linalg.norm(places - places.mean(0), axis=1).argmin())]
    distance = np.linalg.norm(places - places[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    centres = places[chosen]
    for _ in range(_LLOYD_ROUNDS):
        owner = cKDTree(centres).query(places)[1]
        occupied = np.bincount(owner, minlength=count)
        sums = np.stack([np.bincount(owner, places[:, axis], count) for axis in range(3)], 1)
        centres = np.where(occupied[:, None] > 0, sums / np.maximum(occupied, 1)[:, None], centres)
    owner = cKDTree(centres).query(places)[1]
    return torch.as_tensor(centres).to(points), torch.as_tensor(owner, device=points.device)
