"""The compiled composition of two rigid motions against its reference in torch, in value and
gradient."""

from __future__ import annotations

import pytest
import torch

from kinesphere.kernels.composition import compose_two

Tensors = tuple[torch.Tensor, ...]


def problem(angle: float, n_ranks: int, dtype: torch.dtype = torch.float64) -> Tensors:
    """Points with shares of every kind: one segment only, half and half, and all between."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    n_points, n_segments, n_states = 50, 6, 7
    share = torch.rand(n_points, n_ranks, generator=generator, dtype=dtype)
    share[0], share[1] = 0.5, 0.0
    share[1, 0] = 1.0
    segment = torch.stack(
        [torch.randperm(n_segments, generator=generator)[:n_ranks] for _ in range(n_points)]
    )
    rotation = normal(n_states, n_segments, 3)
    rotation = angle * rotation / rotation.norm(dim=-1, keepdim=True)
    return (
        20.0 * normal(n_points, 3),
        share,
        segment,
        rotation,
        normal(n_states, n_segments, 3),
        normal(n_segments, 3),
    )


@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.03, 0.5, 3.0, 7.0])
def test_compiled_composition_equals_its_reference(angle: float, n_ranks: int) -> None:
    tensors = problem(angle, n_ranks)
    torch.testing.assert_close(
        compose_two(*tensors), compose_two.reference(*tensors), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("angle", [1e-3, 0.031, 0.0317, 0.5, 3.0, 7.0])
def test_compiled_gradient_equals_that_of_its_reference(angle: float, n_ranks: int) -> None:
    points, share, segment, rotation, translation, pivots = problem(angle, n_ranks)
    weight = torch.randn(7, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for compose in (compose_two, compose_two.reference):
        leaves = [tensor.clone().requires_grad_() for tensor in (share, rotation, translation)]
        (
            compose(points, leaves[0], segment, leaves[1], leaves[2], pivots) * weight
        ).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    used = share > 0  # what no share reaches has no gradient to speak of: see the module
    torch.testing.assert_close(gradients[0][0][used], gradients[1][0][used], rtol=1e-6, atol=1e-5)
    for one, other in zip(gradients[0][1:], gradients[1][1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_single_precision_is_enough_near_no_rotation() -> None:
    """Where the closed form of the coefficients' derivatives loses its digits, the series has
    them."""
    exact = problem(0.0, 2)
    for angle in torch.logspace(-4, 0, 30).tolist():
        points, share, segment, rotation, *rest = problem(angle, 2)
        found = []
        for dtype in (torch.float32, torch.float64):
            leaf = rotation.to(dtype).requires_grad_()
            others = [tensor.to(dtype) for tensor in rest]
            (
                compose_two(points.to(dtype), share.to(dtype), segment, leaf, *others) ** 2
            ).sum().backward()
            assert leaf.grad is not None
            found.append(leaf.grad.double())
        assert (found[0] - found[1]).norm() / found[1].norm() < 1e-3
    assert torch.isfinite(compose_two(*exact)).all()
