"""Projection along a motion by Triton against its reference: on a GPU, else in Triton's
interpreter."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.kernels.compiled import checked_kernels
from kinesphere.reconstruction import operator
from kinesphere.reconstruction.masks import near_points
from kinesphere.reconstruction.operator import (
    DeformedProjector,
    Views,
    pull_reference,
    push_reference,
)
from kinesphere.reconstruction.support import Support

TOLERANCE = 1e-4  # as for the compiled loops: places in pixels have five digits behind the point


@pytest.fixture
def kernels(triton_device: torch.device) -> ModuleType:
    found = checked_kernels("kinesphere.kernels.voxels_triton", triton_device)
    assert found is not None
    return found


@pytest.fixture
def projector() -> DeformedProjector:
    """A small ball off the centre: the interpreter is slow."""
    inside = near_points(np.array([[6.0, -4.0, 2.0]]), RenderGrid(16, 2.0), 7.0)
    return DeformedProjector(Support.of_voxels(inside, 2.0, spacing_px=3))


@pytest.fixture
def views(projector: DeformedProjector, rotation: torch.Tensor) -> Views:
    """Images in which some voxels leave the box, and wrap around."""
    moved = projector.views(rotation[:2], 3.0 * torch.randn(2, projector.support.n_nodes, 3))
    beyond = projector.size / 2
    return Views(moved.base + torch.tensor([beyond, -beyond]), moved.axes, moved.node_xy)


def on(device: torch.device, views: Views) -> Views:
    return Views(*(array.to(device) for array in (views.base, views.axes, views.node_xy)))


def lattice(
    projector: DeformedProjector, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, int]:
    return projector._voxels.to(device), projector._cells.to(device), projector.support.spacing_px


@pytest.mark.oracle
def test_pull_equals_its_reference(
    kernels: ModuleType, triton_device: torch.device, projector: DeformedProjector, views: Views
) -> None:
    grids = torch.randn(len(views), projector.size, projector.size)
    found = kernels.pull(
        grids.to(triton_device), on(triton_device, views), *lattice(projector, triton_device)
    )
    expected = pull_reference(grids, views, projector._voxels, projector._corners)
    assert found.dtype == torch.float64
    assert torch.allclose(found.cpu(), expected, atol=TOLERANCE)


@pytest.mark.oracle
def test_push_equals_its_reference_and_is_the_transpose_of_pull(
    kernels: ModuleType, triton_device: torch.device, projector: DeformedProjector, views: Views
) -> None:
    density, there = torch.randn(projector.support.n_voxels), on(triton_device, views)
    geometry = lattice(projector, triton_device)
    found = kernels.push(density.to(triton_device), there, projector.size, *geometry)
    expected = push_reference(density, views, projector.size, projector._voxels, projector._corners)
    assert torch.allclose(found.cpu(), expected, atol=TOLERANCE)
    grids = torch.randn_like(found)
    back = float(kernels.pull(grids, there, *geometry).cpu() @ density.double())
    assert back == pytest.approx(float((grids * found).double().sum()), rel=1e-5, abs=1e-3)


@pytest.mark.oracle
def test_gradients_are_each_other_and_those_of_the_references(
    kernels: ModuleType, triton_device: torch.device, projector: DeformedProjector, views: Views
) -> None:
    """Both maps are linear: the gradient of one through its reference is the other."""
    geometry, there = lattice(projector, triton_device), on(triton_device, views)
    grids = torch.randn(len(views), projector.size, projector.size, requires_grad=True)
    weight = torch.randn(projector.support.n_voxels)
    (pull_reference(grids, views, projector._voxels, projector._corners) * weight).sum().backward()
    found = kernels.push(weight.to(triton_device), there, projector.size, *geometry)
    assert torch.allclose(found.cpu(), grids.grad, atol=TOLERANCE)
    density = torch.randn(projector.support.n_voxels, requires_grad=True)
    pushed = push_reference(density, views, projector.size, projector._voxels, projector._corners)
    (pushed * grids.detach()).sum().backward()
    pulled = kernels.pull(grids.detach().to(triton_device), there, *geometry)
    assert torch.allclose(pulled.float().cpu(), density.grad, atol=TOLERANCE)


@pytest.mark.oracle
def test_the_projector_uses_the_kernels(
    kernels: ModuleType,
    triton_device: torch.device,
    projector: DeformedProjector,
    views: Views,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    density, grids = (
        torch.rand(projector.support.n_voxels),
        torch.randn(2, projector.size, projector.size),
    )
    expected = projector._push(density, views), projector._pull(grids, views)
    elsewhere = DeformedProjector(projector.support, triton_device)
    there, at = on(triton_device, views), (elsewhere._voxels, elsewhere._cells)
    assert all(array.device.type == triton_device.type for array in at)
    elsewhere.device = torch.device("cuda")  # the interpreter's tensors are on the processor
    monkeypatch.setattr(operator, "gpu_kernels", lambda *_: kernels)
    found = (
        elsewhere._push(density.to(triton_device), there),
        elsewhere._pull(grids.to(triton_device), there),
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.cpu(), other, atol=TOLERANCE)


@pytest.mark.oracle
def test_a_support_without_voxels(kernels: ModuleType, triton_device: torch.device) -> None:
    projector = DeformedProjector(
        Support.of_voxels(np.zeros((8, 8, 8), dtype=bool), 2.0, spacing_px=3)
    )
    views = on(triton_device, Views(torch.zeros(2, 2), torch.zeros(2, 3, 2), torch.zeros(2, 0, 2)))
    geometry = lattice(projector, triton_device)
    assert kernels.pull(torch.randn(2, 16, 16).to(triton_device), views, *geometry).shape == (0,)
    assert not kernels.push(torch.zeros(0, device=triton_device), views, 16, *geometry).any()


@pytest.mark.oracle
def test_results_that_differ_from_the_reference_are_found_out(
    kernels: ModuleType, triton_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "pull_reference", lambda *given: 1.01 * pull_reference(*given))
    with pytest.raises(ArithmeticError, match="differs from its reference"):
        kernels.check(triton_device)
