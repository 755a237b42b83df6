"""Soft memberships of residues in segments (eq. 6 of the cryoSPHERE paper), and the two that count
of each.

Compiled, a segment too far from a residue to hold any of it costs nothing.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled
from kinesphere.kernels.dispatch import operation

_SMALLEST_LOGIT = -40.0  # exp of it is lost next to 1 in double precision


def soft_memberships(
    centre: Float[Tensor, " m"],
    width: Float[Tensor, " m"],
    log_weight: Float[Tensor, " m"],
    index: Float[Tensor, " p"],
    allowed: Bool[Tensor, "p m"],
    temperature: float,
) -> Float[Tensor, "p m"]:
    """Membership of each residue in each segment, rows adding up to 1.

    Parameters
    ----------
    centre, width, log_weight
        (n_segments,) of the Gaussian mixture over the residue index.
    index
        (n_points,) residue index.
    allowed
        (n_points, n_segments) whether a residue may belong to a segment.
    temperature
        τ of eq. 6.
    """
    distance = (index[:, None] - centre) / width
    logits = -0.5 * distance**2 - width.log() + log_weight
    return torch.softmax((temperature * logits).masked_fill(~allowed, -torch.inf), dim=1)


@operation(differentiable=(0, 1, 2))
def two_largest_memberships(
    centre: Float[Tensor, " m"],
    width: Float[Tensor, " m"],
    log_weight: Float[Tensor, " m"],
    index: Float[Tensor, " p"],
    allowed: Bool[Tensor, "p m"],
    temperature: float,
) -> tuple[Float[Tensor, "p two"], Int[Tensor, "p two"]]:
    """Give membership in, and number of, the two segments that hold most of each residue, in chain
    order; parameters as for `soft_memberships`.
    """
    membership = soft_memberships(centre, width, log_weight, index, allowed, temperature)
    largest = membership.topk(min(2, membership.shape[1]), dim=1).indices.sort(dim=1).values
    return membership.gather(1, largest), largest


@two_largest_memberships.on_cpu
def _two_largest_compiled(
    centre: Tensor,
    width: Tensor,
    log_weight: Tensor,
    index: Tensor,
    allowed: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    arguments = (centre, width, log_weight, index, allowed, temperature)
    largest, segment = _TwoLargest.apply(*arguments)
    return largest, segment


@two_largest_memberships.takes
def _has_two_segments(centre: Tensor, *_: Any) -> bool:
    return len(centre) >= 2


@two_largest_memberships.example
def _two_largest_example(dtype: torch.dtype) -> tuple[Any, ...]:
    centre = torch.tensor([3.0, 8.5, 17.0, 26.0], dtype=dtype)
    log_weight = torch.log_softmax(torch.tensor([0.0, 0.3, -0.2, 0.5], dtype=dtype), 0)
    allowed = torch.ones(30, 4, dtype=torch.bool)
    allowed[:15, 3] = False
    return centre, 4.0 + 0.1 * centre, log_weight, torch.arange(30, dtype=dtype), allowed, 1.0


class _TwoLargest(torch.autograd.Function):
    """Differentiable in centres, widths and weights."""

    @staticmethod
    def forward(
        ctx: Any,
        centre: Tensor,
        width: Tensor,
        log_weight: Tensor,
        index: Tensor,
        allowed: Tensor,
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        constant = log_weight - width.log()
        membership = centre.new_empty(len(index), len(centre))
        largest = centre.new_empty(len(index), 2)
        segment = torch.empty(len(index), 2, dtype=torch.int64)
        arrays = [array_of(t) for t in (centre, width, constant, index.to(centre), allowed)]
        _two_largest(*arrays, temperature, membership.numpy(), largest.numpy(), segment.numpy())
        ctx.save_for_backward(centre, width, index, membership, segment)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(segment)
        return largest, segment

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        centre, width, index, membership, segment = ctx.saved_tensors
        grad_mixture = centre.new_zeros(3, len(centre))
        arrays = [
            array_of(t)
            for t in (centre, width, index.to(centre), membership, segment, gradients[0])
        ]
        _two_largest_gradient(*arrays, ctx.temperature, grad_mixture.numpy())
        return *grad_mixture.unbind(0), None, None, None


@compiled
@no_type_check
def _two_largest(
    centre, width, constant, index, allowed, temperature, membership, largest_two, segment
):
    """Set the memberships (p, m), a softmax a residue, and the two largest of each (p, 2)."""
    kind = centre.dtype
    tau = kind.type(temperature)
    nothing = kind.type(_SMALLEST_LOGIT)
    half = kind.type(0.5)
    for p in range(index.shape[0]):
        row = membership[p]
        largest = kind.type(-math.inf)
        for m in range(centre.shape[0]):
            distance = (index[p] - centre[m]) / width[m]
            row[m] = (
                tau * (constant[m] - half * distance * distance) if allowed[p, m] else -math.inf
            )
            largest = max(largest, row[m])
        total = 0 * half
        for m in range(centre.shape[0]):
            # what is no number is compared as false, and stays none
            row[m] = 0 if row[m] - largest < nothing else np.exp(row[m] - largest)
            total += row[m]
        first, second = 0, 1
        if row[1] > row[0]:
            first, second = 1, 0
        for m in range(2, centre.shape[0]):
            if row[m] > row[first]:
                first, second = m, first
            elif row[m] > row[second]:
                second = m
        for m in range(centre.shape[0]):
            row[m] /= total
        segment[p, 0], segment[p, 1] = min(first, second), max(first, second)
        largest_two[p, 0], largest_two[p, 1] = row[segment[p, 0]], row[segment[p, 1]]


@compiled
@no_type_check
def _two_largest_gradient(
    centre, width, index, membership, segment, grad_largest, temperature, grad_mixture
):
    """Through the softmax: ∂G_r / ∂logit_m = G_r (δ_rm − G_m), G being the memberships; logits as
    in `soft_memberships`.
    """
    tau = centre.dtype.type(temperature)
    for p in range(index.shape[0]):
        a, b = segment[p, 0], segment[p, 1]
        of_a, of_b = grad_largest[p, 0] * membership[p, a], grad_largest[p, 1] * membership[p, b]
        for m in range(centre.shape[0]):
            if membership[p, m] == 0:  # most segments are far
                continue
            grad_logit = -membership[p, m] * (of_a + of_b)
            if m == a:
                grad_logit += of_a
            elif m == b:
                grad_logit += of_b
            grad_logit *= tau
            distance = (index[p] - centre[m]) / width[m]
            grad_mixture[0, m] += grad_logit * distance / width[m]
            grad_mixture[1, m] += grad_logit * (distance * distance - 1) / width[m]
            grad_mixture[2, m] += grad_logit
