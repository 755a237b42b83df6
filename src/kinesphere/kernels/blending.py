"""How rigid parts are blended in space: shares of the parts at any place, and their products with
its coordinates.

In torch, on any device, as the reference; and compiled for the CPU, with the gradient.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled, over_rows

_SMALLEST_SHARE = 1e-20
_NOTHING = math.log(_SMALLEST_SHARE)


def blending_weights(
    points: Float[Tensor, "q 3"], centres: Float[Tensor, "m 3"], sharpness: Float[Tensor, " m"]
) -> Float[Tensor, "q m"]:
    """Give the share of each part at each point: exp(−sharpness · |x − centre|²), over the sum of
    that of all parts.
    """
    # multiplied out: one matrix product, no array of differences
    of_part = torch.stack([-sharpness, -sharpness * centres.square().sum(1)])
    linear = points @ (2.0 * sharpness[:, None] * centres).T
    squares = torch.stack([points.square().sum(1), torch.ones_like(points[:, 0])], dim=1)
    share = torch.softmax(linear + squares @ of_part, dim=1)
    # far parts have shares too small for a normal float, with which products take fifty times as
    # long
    return torch.where(share > _SMALLEST_SHARE, share, 0.0)


def blended_basis(
    points: Float[Tensor, "q 3"], centres: Float[Tensor, "m 3"], sharpness: Float[Tensor, " m"]
) -> Float[Tensor, "q m 4"]:
    """Give the share of each part times 1, x, y and z of the point.

    Parameters
    ----------
    points
        (n_points, 3) in Å.
    centres
        (n_parts, 3) in Å.
    sharpness
        (n_parts,) in 1/Å².

    Returns
    -------
    Tensor
        (n_points, n_parts, 4), differentiable in everything.
    """
    if points.device.type != "cpu":
        return blended_basis_reference(points, centres, sharpness)
    basis: Tensor = _BlendedBasis.apply(points, centres.to(points), sharpness.to(points))
    return basis


def blended_basis_reference(points: Tensor, centres: Tensor, sharpness: Tensor) -> Tensor:
    """`blended_basis` in torch."""
    place = torch.cat([torch.ones_like(points[:, :1]), points], dim=1)
    return blending_weights(points, centres, sharpness)[:, :, None] * place[:, None]


class _BlendedBasis(torch.autograd.Function):
    """Differentiable in points, centres and sharpness."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, centres: Tensor, sharpness: Tensor) -> Tensor:
        basis = points.new_empty(len(points), len(centres), 4)
        places, middles, narrowness, out = (
            array_of(points),
            array_of(centres),
            array_of(sharpness),
            basis.numpy(),
        )
        over_rows(
            lambda some: _make_basis(places[some], middles, narrowness, out[some]), *basis.shape[:2]
        )
        ctx.save_for_backward(points, centres, sharpness, basis)
        return basis

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        wanted = [
            torch.zeros_like(t, memory_format=torch.contiguous_format)
            for t in ctx.saved_tensors[:3]
        ]
        known = [array_of(t) for t in (*ctx.saved_tensors, gradients[0])]
        _basis_gradient(*known, *(t.numpy() for t in wanted))
        return tuple(wanted)


@compiled
@no_type_check
def _make_basis(points, centres, sharpness, basis):
    kind = points.dtype
    share = np.empty(len(centres), kind)
    for q in range(points.shape[0]):
        x, y, z = points[q, 0], points[q, 1], points[q, 2]
        largest = kind.type(-math.inf)
        for m in range(centres.shape[0]):
            dx, dy, dz = x - centres[m, 0], y - centres[m, 1], z - centres[m, 2]
            share[m] = -sharpness[m] * (dx * dx + dy * dy + dz * dz)
            largest = max(largest, share[m])
        total = kind.type(0)
        for m in range(centres.shape[0]):
            # what is no number is compared as false, and stays none
            share[m] = 0 if share[m] - largest < kind.type(_NOTHING) else np.exp(share[m] - largest)
            total += share[m]
        for m in range(centres.shape[0]):
            w = share[m] / total
            basis[q, m, 0], basis[q, m, 1], basis[q, m, 2], basis[q, m, 3] = w, w * x, w * y, w * z


@compiled
@no_type_check
def _basis_gradient(points, centres, sharpness, basis, by_basis, by_point, by_centre, by_sharpness):
    """Through the products and the softmax: ∂L/∂logit_m = w_m (∂L/∂w_m − Σ_n w_n ∂L/∂w_n)."""
    by_share = np.empty(len(centres), points.dtype)
    for q in range(points.shape[0]):
        x, y, z = points[q, 0], points[q, 1], points[q, 2]
        mean = points.dtype.type(0)
        for m in range(centres.shape[0]):
            g = by_basis[q, m]
            w = basis[q, m, 0]
            by_share[m] = g[0] + g[1] * x + g[2] * y + g[3] * z
            mean += w * by_share[m]
            by_point[q, 0] += w * g[1]
            by_point[q, 1] += w * g[2]
            by_point[q, 2] += w * g[3]
        for m in range(centres.shape[0]):
            w = basis[q, m, 0]
            if w == 0:
                continue
            by_logit = w * (by_share[m] - mean)
            dx, dy, dz = x - centres[m, 0], y - centres[m, 1], z - centres[m, 2]
            twice = 2 * sharpness[m] * by_logit
            by_point[q, 0] -= twice * dx
            by_point[q, 1] -= twice * dy
            by_point[q, 2] -= twice * dz
            by_centre[m, 0] += twice * dx
            by_centre[m, 1] += twice * dy
            by_centre[m, 2] += twice * dz
            by_sharpness[m] -= by_logit * (dx * dx + dy * dy + dz * dz)
