"""A small molecule that moves, and its images, made by formulas that share nothing with the code
under test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.reconstruction.masks import near_points
from kinesphere.reconstruction.support import Support

BOX, PIXEL_ANGSTROM = 24, 2.0


@pytest.fixture
def support() -> Support:
    """An off-centre blob of voxels, with a lattice of three voxels' spacing."""
    points = np.array([[4.0, -6.0, 2.0], [-8.0, 3.0, -1.0], [0.0, 9.0, 8.0]])
    inside = near_points(points, RenderGrid(BOX, PIXEL_ANGSTROM), 9.0)
    return Support.of_voxels(inside, PIXEL_ANGSTROM, spacing_px=3)


@pytest.fixture
def rotation() -> torch.Tensor:
    """Five random poses."""
    return torch.from_numpy(Rotation.random(5, random_state=3).as_matrix()).float()
