"""How rigid parts are blended in space: weights of the parts at any place, and their products with
its coordinates.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled, over_rows
from kinesphere.kernels.dispatch import operation

_SMALLEST_WEIGHT = 1e-20
_SMALLEST_LOGIT = math.log(_SMALLEST_WEIGHT)


def blending_weights(
    points: Float[Tensor, "q 3"], centres: Float[Tensor, "m 3"], sharpness: Float[Tensor, " m"]
) -> Float[Tensor, "q m"]:
    """Give the weight of each part at each point: exp(−sharpness · |x − centre|²), over the sum of
    that of all parts.
    """
    # multiplied out: one matrix product, no array of differences
    of_part = torch.stack([-sharpness, -sharpness * centres.square().sum(1)])
    linear = points @ (2.0 * sharpness[:, None] * centres).T
    squares = torch.stack([points.square().sum(1), torch.ones_like(points[:, 0])], dim=1)
    weight = torch.softmax(linear + squares @ of_part, dim=1)
    # far parts have weights too small for a normal float, with which products take fifty times as
    # long
    return torch.where(weight > _SMALLEST_WEIGHT, weight, 0.0)


@operation(differentiable=(0, 1, 2))
def blended_basis(
    points: Float[Tensor, "q 3"], centres: Float[Tensor, "m 3"], sharpness: Float[Tensor, " m"]
) -> Float[Tensor, "q m 4"]:
    """Give the weight of each part times 1, x, y and z of the point.

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
    place = torch.cat([torch.ones_like(points[:, :1]), points], dim=1)
    return blending_weights(points, centres, sharpness)[:, :, None] * place[:, None]


@blended_basis.on_cpu
def _blended_basis_compiled(points: Tensor, centres: Tensor, sharpness: Tensor) -> Tensor:
    basis: Tensor = _BlendedBasis.apply(points, centres.to(points), sharpness.to(points))
    return basis


@blended_basis.example
def _blended_basis_example(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = 15.0 * torch.randn(20, 3, generator=generator).to(dtype)
    centres = 15.0 * torch.randn(5, 3, generator=generator).to(dtype)
    return points, centres, torch.linspace(0.002, 0.02, 5, dtype=dtype)


class _BlendedBasis(torch.autograd.Function):
    """Differentiable in points, centres and sharpness."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, centres: Tensor, sharpness: Tensor) -> Tensor:
        basis = points.new_empty(len(points), len(centres), 4)
        places = array_of(points)
        middles = array_of(centres)
        narrowness = array_of(sharpness)
        out = basis.numpy()
        over_rows(
            lambda some: _make_basis(places[some], middles, narrowness, out[some]), *basis.shape[:2]
        )
        ctx.save_for_backward(points, centres, sharpness, basis)
        return basis

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        results = [
            torch.zeros_like(t, memory_format=torch.contiguous_format)
            for t in ctx.saved_tensors[:3]
        ]
        arrays = [array_of(t) for t in (*ctx.saved_tensors, gradients[0])]
        _basis_gradient(*arrays, *(t.numpy() for t in results))
        return tuple(results)


@compiled
@no_type_check
def _make_basis(points, centres, sharpness, basis):
    """Set the basis (q, m, 4): a softmax over the parts of each point."""
    kind = points.dtype
    weight = np.empty(len(centres), kind)
    for q in range(points.shape[0]):
        x, y, z = points[q, 0], points[q, 1], points[q, 2]
        largest = kind.type(-math.inf)
        for m in range(centres.shape[0]):
            dx, dy, dz = x - centres[m, 0], y - centres[m, 1], z - centres[m, 2]
            weight[m] = -sharpness[m] * (dx * dx + dy * dy + dz * dz)
            largest = max(largest, weight[m])
        total = kind.type(0)
        for m in range(centres.shape[0]):
            # what is no number is compared as false, and stays none
            logit = weight[m] - largest
            weight[m] = 0 if logit < kind.type(_SMALLEST_LOGIT) else np.exp(logit)
            total += weight[m]
        for m in range(centres.shape[0]):
            w = weight[m] / total
            basis[q, m, 0], basis[q, m, 1], basis[q, m, 2], basis[q, m, 3] = w, w * x, w * y, w * z


@compiled
@no_type_check
def _basis_gradient(
    points, centres, sharpness, basis, grad_basis, grad_points, grad_centres, grad_sharpness
):
    """Through the products and the softmax: ∂L/∂logit_m = w_m (∂L/∂w_m − Σ_n w_n ∂L/∂w_n)."""
    grad_weight = np.empty(len(centres), points.dtype)
    for q in range(points.shape[0]):
        x, y, z = points[q, 0], points[q, 1], points[q, 2]
        mean = points.dtype.type(0)
        for m in range(centres.shape[0]):
            g = grad_basis[q, m]
            w = basis[q, m, 0]
            grad_weight[m] = g[0] + g[1] * x + g[2] * y + g[3] * z
            mean += w * grad_weight[m]
            grad_points[q, 0] += w * g[1]
            grad_points[q, 1] += w * g[2]
            grad_points[q, 2] += w * g[3]
        for m in range(centres.shape[0]):
            w = basis[q, m, 0]
            if w == 0:  # most parts are far
                continue
            grad_logit = w * (grad_weight[m] - mean)
            dx, dy, dz = x - centres[m, 0], y - centres[m, 1], z - centres[m, 2]
            twice = 2 * sharpness[m] * grad_logit
            grad_points[q, 0] -= twice * dx
            grad_points[q, 1] -= twice * dy
            grad_points[q, 2] -= twice * dz
            grad_centres[m, 0] += twice * dx
            grad_centres[m, 1] += twice * dy
            grad_centres[m, 2] += twice * dz
            grad_sharpness[m] -= grad_logit * (dx * dx + dy * dy + dz * dz)
