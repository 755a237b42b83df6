"""The compiled blending of parts against its reference in torch, in value and gradient."""

from __future__ import annotations

import pytest
import torch

from kinesphere.kernels.blending import blended_basis, blending_weights

Tensors = tuple[torch.Tensor, ...]


def problem(dtype: torch.dtype, n_points: int = 300) -> Tensors:
    """Points among parts of several widths, and far from all of them."""
    generator = torch.Generator().manual_seed(0)
    points = 30.0 * torch.randn(n_points, 3, generator=generator, dtype=dtype)
    points[-5:] *= 10.0
    centres = 20.0 * torch.randn(12, 3, generator=generator, dtype=dtype)
    width = 5.0 + 10.0 * torch.rand(12, generator=generator, dtype=dtype)
    return points, centres, 0.5 / width**2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_compiled_basis_and_its_gradient_equal_the_reference(
    dtype: torch.dtype, tolerance: float
) -> None:
    tensors = problem(dtype)
    weight = torch.randn(300, 12, 4, dtype=dtype)
    found = []
    for make in (blended_basis, blended_basis.reference):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        basis = make(*leaves)
        (basis * weight).sum().backward()
        found.append((basis.detach(), *(leaf.grad for leaf in leaves)))
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max())
        )


def test_gradient_is_that_of_finite_differences() -> None:
    points, *gaussians = problem(torch.float64)
    leaves = [tensor.clone().requires_grad_() for tensor in (points[:6], *gaussians)]
    assert torch.autograd.gradcheck(blended_basis, leaves, atol=1e-4)


def test_shares_of_far_parts_are_zero_rather_than_subnormal() -> None:
    points, centres, sharpness = problem(torch.float32)
    shares = blended_basis(10.0 * points, centres, sharpness)[..., 0]
    assert not ((shares > 0) & (shares < 1e-30)).any()
    assert (shares == 0).any()
    assert torch.equal(shares > 0, blending_weights(10.0 * points, centres, sharpness) > 0)


def test_threads_change_nothing() -> None:
    tensors = problem(torch.float32, n_points=4000)
    alone = blended_basis(*tensors)
    torch.set_num_threads(2)
    try:
        together = blended_basis(*tensors)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone, together)


def test_a_place_that_is_no_number_spoils_itself_only() -> None:
    points, centres, sharpness = problem(torch.float32)
    points[3, 1] = torch.nan
    spoiled = blended_basis(points, centres, sharpness).isnan()
    assert spoiled[3].all()
    assert spoiled.any(2).any(1).sum() == 1
