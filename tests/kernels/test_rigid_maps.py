"""The compiled maps of rigid motions against their reference in torch, in value and gradient."""

from __future__ import annotations

import pytest
import torch

from kinesphere.kernels.rigid_maps import rigid_maps


def problem(angle: float, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Rotations by one angle about axes in all directions, one of them by none."""
    generator = torch.Generator().manual_seed(0)
    rotation, translation = torch.randn(2, 7, 6, 3, generator=generator, dtype=dtype)
    rotation = angle * rotation / rotation.norm(dim=-1, keepdim=True)
    rotation[0, 0] = 0.0
    return rotation, translation, 20.0 * torch.randn(6, 3, generator=generator, dtype=dtype)


@pytest.mark.parametrize("angle", [1e-3, 0.031, 0.0317, 0.5, 3.0, 7.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_compiled_maps_and_their_gradient_equal_the_reference(
    angle: float, dtype: torch.dtype, tolerance: float
) -> None:
    rotation, translation, pivots = problem(angle, dtype)
    weight = torch.randn(7, 3, 6, 4, dtype=dtype)
    found = []
    for make in (rigid_maps, rigid_maps.reference):
        leaves = [tensor.clone().requires_grad_() for tensor in (rotation, translation)]
        maps = make(*leaves, pivots)
        (maps * weight).sum().backward()
        found.append((maps.detach(), *(leaf.grad for leaf in leaves)))
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max())
        )


def test_gradient_is_that_of_finite_differences() -> None:
    *motion, pivots = problem(0.8, torch.float64)
    leaves = [tensor[:2, :2].clone().requires_grad_() for tensor in motion]
    assert torch.autograd.gradcheck(lambda *tensors: rigid_maps(*tensors, pivots[:2]), leaves)


def test_small_rotations_keep_their_digits_in_single_precision() -> None:
    for angle in torch.logspace(-4, 0, 30).tolist():
        rotation, translation, pivots = problem(angle, torch.float64)
        exact = rigid_maps.reference(rotation, translation, pivots)[..., 1:]
        found = rigid_maps(rotation.float(), translation.float(), pivots.float())[..., 1:]
        assert float((found - exact).norm() / exact.norm()) < 1e-6
