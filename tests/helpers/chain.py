"""A stand-in for a molecule: a compact random chain, projected in random poses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

Projector = Callable[..., torch.Tensor]

STEP_ANGSTROM = 3.8


def _chain(n_points: int, radius_angstrom: float, draw: np.random.Generator) -> np.ndarray:
    """A random walk of Cα–Cα steps, folded back wherever it would leave a ball."""
    points = np.zeros((n_points, 3))
    for i in range(1, n_points):
        step = draw.normal(size=3)
        step *= STEP_ANGSTROM / np.linalg.norm(step)
        inward = np.linalg.norm(points[i - 1] + step) > radius_angstrom
        points[i] = points[i - 1] + (-step if inward else step)
    return points


@pytest.fixture(scope="session")
def projected_chain() -> Projector:
    """Make (n_images, n_points, 2) projections in Å of a chain that fills 0.35 of a field of
    view."""

    def make(n_images: int, n_points: int, field_of_view: float, seed: int = 0) -> torch.Tensor:
        points = _chain(n_points, 0.35 * field_of_view, np.random.default_rng(seed))
        rotation = Rotation.random(n_images, random_state=seed).as_matrix()
        return torch.from_numpy((points @ rotation)[..., :2].copy()).float()

    return make
