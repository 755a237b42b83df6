"""Projection along a motion by Triton against its reference: on a GPU, else in Triton's
interpreter."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.kernels.dispatch import checked_kernels
from kinesphere.kernels.voxels import Views, VoxelLattice, pull, push
from kinesphere.reconstruction.masks import near_points
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.support import Support

TOLERANCE = 1e-4  # as for the compiled loops: places in pixels have five digits behind the point
SIZE = 32


@pytest.fixture
def kernels(triton_device: torch.device) -> ModuleType:
    found = checked_kernels("kinesphere.kernels.voxels_triton", triton_device)
    assert found is not None
    return found


@pytest.fixture
def ball() -> Support:
    """A small one off the centre: the interpreter is slow."""
    inside = near_points(np.array([[6.0, -4.0, 2.0]]), RenderGrid(SIZE // 2, 2.0), 7.0)
    return Support.of_voxels(inside, 2.0, spacing_px=3)


@pytest.fixture
def lattice(ball: Support) -> VoxelLattice:
    return VoxelLattice(ball.runs, ball.cells, ball.spacing_px)


@pytest.fixture
def views(ball: Support, rotation: torch.Tensor) -> Views:
    """Images in which some voxels leave the box, and wrap around."""
    moved = DeformedProjector(ball).views(rotation[:2], 3.0 * torch.randn(2, ball.n_nodes, 3))
    beyond = SIZE / 2
    return Views(moved.base + torch.tensor([beyond, -beyond]), moved.axes, moved.node_xy)


@pytest.mark.oracle
def test_pull_equals_its_reference(
    kernels: ModuleType, triton_device: torch.device, lattice: VoxelLattice, views: Views
) -> None:
    grids = torch.randn(len(views), SIZE, SIZE)
    there = [argument.to(triton_device) for argument in (grids, views, lattice)]
    found = kernels.pull(*there)
    assert found.dtype == torch.float64
    assert torch.allclose(found.cpu(), pull.reference(grids, views, lattice), atol=TOLERANCE)


@pytest.mark.oracle
def test_push_equals_its_reference_and_is_the_transpose_of_pull(
    kernels: ModuleType, triton_device: torch.device, lattice: VoxelLattice, views: Views
) -> None:
    density = torch.randn(lattice.n_voxels)
    geometry = views.to(triton_device), lattice.to(triton_device)
    found = kernels.push(density.to(triton_device), geometry[0], SIZE, geometry[1])
    assert torch.allclose(
        found.cpu(), push.reference(density, views, SIZE, lattice), atol=TOLERANCE
    )
    grids = torch.randn_like(found)
    back = float(kernels.pull(grids, *geometry).cpu() @ density.double())
    assert back == pytest.approx(float((grids * found).double().sum()), rel=1e-5, abs=1e-3)


@pytest.mark.oracle
def test_gradients_are_each_other_and_those_of_the_references(
    kernels: ModuleType, triton_device: torch.device, lattice: VoxelLattice, views: Views
) -> None:
    """Both maps are linear: the gradient of one through its reference is the other."""
    geometry = views.to(triton_device), lattice.to(triton_device)
    grids = torch.randn(len(views), SIZE, SIZE, requires_grad=True)
    weight = torch.randn(lattice.n_voxels)
    (pull.reference(grids, views, lattice) * weight).sum().backward()
    found = kernels.push(weight.to(triton_device), geometry[0], SIZE, geometry[1])
    assert torch.allclose(found.cpu(), grids.grad, atol=TOLERANCE)
    density = torch.randn(lattice.n_voxels, requires_grad=True)
    (push.reference(density, views, SIZE, lattice) * grids.detach()).sum().backward()
    pulled = kernels.pull(grids.detach().to(triton_device), *geometry)
    assert torch.allclose(pulled.float().cpu(), density.grad, atol=TOLERANCE)


@pytest.mark.oracle
def test_a_support_without_voxels(kernels: ModuleType, triton_device: torch.device) -> None:
    empty = Support.of_voxels(np.zeros((8, 8, 8), dtype=bool), 2.0, spacing_px=3)
    lattice = VoxelLattice(empty.runs, empty.cells, empty.spacing_px, triton_device)
    views = Views(torch.zeros(2, 2), torch.zeros(2, 3, 2), torch.zeros(2, 0, 2)).to(triton_device)
    assert kernels.pull(torch.randn(2, 16, 16).to(triton_device), views, lattice).shape == (0,)
    assert not kernels.push(torch.zeros(0, device=triton_device), views, 16, lattice).any()
