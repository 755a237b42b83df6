"""The two largest memberships from compiled loops equal those of the whole softmax, in value and
gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinesphere.kernels.mixture import (
    soft_memberships,
    two_largest_memberships,
)


def mixture(
    dtype: torch.dtype, n_segments: int = 6
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sixty residues in two domains, of which the second has the last two segments to itself."""
    centre = torch.linspace(3.0, 57.0, n_segments, dtype=dtype) + torch.randn(
        n_segments, dtype=dtype
    )
    width = 4.0 + torch.rand(n_segments, dtype=dtype)
    weight = torch.log_softmax(torch.randn(n_segments, dtype=dtype), 0)
    second = torch.arange(60) >= 40
    allowed = second[:, None] == (torch.arange(n_segments) >= n_segments - 2)
    return centre, width, weight, torch.arange(60, dtype=dtype), allowed


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_shares_segments_and_gradients_are_those_of_the_reference(
    dtype: torch.dtype, tolerance: float, temperature: float
) -> None:
    *parameters, index, allowed = mixture(dtype)
    weight, found = torch.randn(60, 2, dtype=dtype), []
    for function in (two_largest_memberships, two_largest_memberships.reference):
        leaves = [p.clone().requires_grad_() for p in parameters]
        share, segment = function(*leaves, index, allowed, temperature)
        (weight * share).sum().backward()
        found.append((share.detach(), *(leaf.grad for leaf in leaves)))
        # a segment without a share may be either of those that have none
        total = soft_memberships(*leaves, index, allowed, temperature).gather(1, segment)
        torch.testing.assert_close(share, total, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(*found, strict=True):
        assert theirs is not None
        torch.testing.assert_close(
            ours.sort(-1).values, theirs.sort(-1).values, rtol=tolerance, atol=10 * tolerance
        )


def test_gradients_are_those_of_finite_differences() -> None:
    *parameters, index, allowed = mixture(torch.float64, n_segments=4)
    leaves = [p.requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(
        lambda *p: two_largest_memberships(*p, index, allowed, 2.0)[0], leaves
    )


def test_one_segment_holds_everything() -> None:
    centre, width, weight = torch.tensor([5.0]), torch.tensor([2.0]), torch.zeros(1)
    share, segment = two_largest_memberships(
        centre, width, weight, torch.arange(9.0), torch.ones(9, 1, dtype=torch.bool), 20.0
    )
    assert share.tolist() == [[1.0]] * 9
    assert segment.tolist() == [[0]] * 9


def test_a_parameter_that_is_no_number_shows() -> None:
    centre, *others = mixture(torch.float32)
    centre[1] = torch.nan
    share, _ = two_largest_memberships(centre, *others, 20.0)
    assert share.isnan().any()
