"""Compiled pair distances equal their reference in value and gradient, and are finite where points
coincide."""

from __future__ import annotations

import pytest
import torch

from kinesphere.kernels.distances import (
    pair_distances,
    strain_energy,
)


def structures() -> tuple[torch.Tensor, torch.Tensor]:
    points = 10.0 * torch.randn(3, 40, 3, dtype=torch.float64)
    pairs = torch.randint(40, (200, 2))
    return points, pairs[pairs[:, 0] != pairs[:, 1]]


def test_values_and_gradients_are_those_of_the_reference() -> None:
    points, pairs = structures()
    found, wanted = points.clone().requires_grad_(), points.clone().requires_grad_()
    by_length = torch.randn(3, len(pairs), dtype=torch.float64)
    fast, slow = pair_distances(found, pairs), pair_distances.reference(wanted, pairs)
    torch.testing.assert_close(fast, slow)
    (by_length * fast).sum().backward()
    (by_length * slow).sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad)


def test_coinciding_points_have_a_finite_gradient() -> None:
    points = torch.zeros(1, 2, 3, requires_grad=True)
    pair_distances(points, torch.tensor([[0, 1]])).sum().backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_no_pairs_are_no_distances() -> None:
    assert pair_distances(torch.zeros(2, 5, 3), torch.zeros(0, 2, dtype=torch.int64)).shape == (
        2,
        0,
    )


@pytest.mark.parametrize("charged_again", [False, True])
def test_energy_and_gradient_are_those_of_the_reference(charged_again: bool) -> None:  # noqa: FBT001
    """Of changes within Huber's 0.3 Å and beyond, longer and shorter."""
    points, pairs = structures()
    kept = pair_distances.reference(points[:1], pairs)[0] + 0.4 * torch.randn(
        len(pairs), dtype=torch.float64
    )
    nearest = kept.clamp_max(15.0) if charged_again else None
    found, wanted = points.clone().requires_grad_(), points.clone().requires_grad_()
    fast = strain_energy(found, pairs, kept, nearest)
    slow = strain_energy.reference(wanted, pairs, kept, nearest)
    torch.testing.assert_close(fast, slow)
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (weight * fast).sum().backward()
    (weight * slow).sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad)


def test_energy_without_pairs_is_nothing_and_of_no_numbers_no_number() -> None:
    points, none = torch.randn(3, 5, 3), torch.zeros(0, 2, dtype=torch.int64)
    assert strain_energy(points, none, torch.zeros(0)).tolist() == [0.0, 0.0, 0.0]
    points[1, 2] = torch.nan
    assert strain_energy(points, torch.tensor([[2, 3]]), torch.ones(1)).isnan().tolist() == [
        False,
        True,
        False,
    ]
