"""Images at moved voxels: the compiled loops where voxels leave the box and where rows have gaps;
the lattice against the support."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinesphere.kernels.voxels import Views, VoxelLattice, pull, push
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.support import Support

TOLERANCE = 1e-4  # places in pixels of a grid have five digits behind the point


def lattice_of(support: Support) -> VoxelLattice:
    return VoxelLattice(support.runs, support.cells, support.spacing_px)


def views_of(support: Support, rotation: torch.Tensor) -> tuple[Views, int]:
    projector = DeformedProjector(support)
    moves = 3.0 * torch.randn(len(rotation), support.n_nodes, 3)
    return projector.views(rotation, moves), projector.size


def assert_loops_agree(views: Views, size: int, lattice: VoxelLattice) -> None:
    grids, density = torch.randn(len(views), size, size), torch.randn(lattice.n_voxels)
    pulled, expected = pull(grids, views, lattice), pull.reference(grids, views, lattice)
    assert pulled.dtype == torch.float64
    assert torch.allclose(pulled, expected, atol=TOLERANCE)
    pushed = push(density, views, size, lattice)
    assert torch.allclose(pushed, push.reference(density, views, size, lattice), atol=TOLERANCE)
    there = float((grids * pushed).double().sum())
    assert float(pulled @ density.double()) == pytest.approx(there, rel=1e-5, abs=1e-3)


def test_loops_agree_where_voxels_leave_the_box(support: Support, rotation: torch.Tensor) -> None:
    """And wrap around: the slow branch of the loops."""
    views, size = views_of(support, rotation)
    moved = Views(views.base + torch.tensor([7.0, -9.0]), views.axes, views.node_xy)
    assert_loops_agree(moved, size, lattice_of(support))


@pytest.mark.parametrize("spacing", [1, 2, 4])
def test_loops_agree_where_the_support_has_gaps(spacing: int, rotation: torch.Tensor) -> None:
    inside = np.zeros((24,) * 3, dtype=bool)
    inside[2:4, 3:20, 2:21] = True  # layers of the lattice between these have no voxel
    inside[14:23, 5:9, 1:23] = True
    inside[14:23, 5:9, 9:16] = False  # two runs on a line
    support = Support.of_voxels(inside, 2.0, spacing_px=spacing)
    assert_loops_agree(*views_of(support, rotation), lattice_of(support))


def test_the_lattice_lists_the_voxels_of_the_support_in_their_order(support: Support) -> None:
    lattice = lattice_of(support)
    assert lattice.n_voxels == support.n_voxels
    assert np.array_equal(lattice.voxels.numpy(), support.voxels_px)


def test_corners_of_cells_are_nodes_and_their_mean_place_is_the_voxel(support: Support) -> None:
    number, weight = lattice_of(support).corners
    assert int(number.min()) >= 0
    torch.testing.assert_close(weight.sum(1), torch.ones(support.n_voxels))
    nodes = torch.from_numpy(support.nodes_angstrom).float()
    place = (nodes[number] * weight[..., None]).sum(1) / support.grid.pixel_size_angstrom
    voxels = torch.from_numpy(support.voxels_px.copy()) - support.grid.box // 2
    torch.testing.assert_close(place, voxels.float(), atol=1e-4, rtol=0)


def test_a_support_without_voxels() -> None:
    lattice = lattice_of(Support.of_voxels(np.zeros((8, 8, 8), dtype=bool), 2.0, spacing_px=3))
    views = Views(torch.zeros(2, 2), torch.zeros(2, 3, 2), torch.zeros(2, 0, 2))
    assert pull(torch.randn(2, 16, 16), views, lattice).shape == (0,)
    assert not push(torch.zeros(0), views, 16, lattice).any()
