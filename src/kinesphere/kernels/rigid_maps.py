"""Rigid motions as what they add to a place, x ↦ x + (R − 1) (x − p) + t: linear in the
coefficients of 1, x, y and z.

Compiled, the rotation is taken without its 1, which would cost small rotations their digits: with
s = |u|² = θ², R − 1 = f [u]× + g (u uᵀ − s 1), where f = sin θ / θ and g = (1 − cos θ) / θ² are
smooth in s.
"""

from __future__ import annotations

from typing import Any, no_type_check

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled, over_rows
from kinesphere.kernels.composition import rotation_coefficients
from kinesphere.kernels.dispatch import operation


@operation(differentiable=(0, 1))
def rigid_maps(
    rotation: Float[Tensor, "k m 3"],
    translation: Float[Tensor, "k m 3"],
    pivots: Float[Tensor, "m 3"],
) -> Float[Tensor, "k 3 m 4"]:
    """Give the displacement that each rigid motion adds, as coefficients of 1, x, y and z.

    Parameters
    ----------
    rotation, translation
        (k, n_parts, 3) rotation vectors in radians, and translations in Å.
    pivots
        (n_parts, 3) what the parts rotate about, in Å.

    Returns
    -------
    Tensor
        (k, 3, n_parts, 4), the component of the displacement before the part; differentiable in
        both motions.
    """
    turn = roma.rotvec_to_rotmat(rotation) - torch.eye(
        3, dtype=rotation.dtype, device=rotation.device
    )
    shift = translation - (turn @ pivots[:, :, None])[..., 0]
    return torch.cat([shift[..., None], turn], dim=-1).transpose(1, 2)


@rigid_maps.on_cpu
def _rigid_maps_compiled(rotation: Tensor, translation: Tensor, pivots: Tensor) -> Tensor:
    maps: Tensor = _RigidMaps.apply(rotation, translation.to(rotation), pivots.to(rotation))
    return maps


@rigid_maps.takes
def _has_fixed_pivots(_rotation: Tensor, _translation: Tensor, pivots: Tensor) -> bool:
    """Tell whether the gradient is that with respect to the motions only, as the compiled one."""
    return not pivots.requires_grad


@rigid_maps.example
def _rigid_maps_example(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rotation, translation = torch.randn(2, 3, 4, 3, generator=generator).to(dtype)
    return rotation, translation, 20.0 * torch.randn(4, 3, generator=generator).to(dtype)


class _RigidMaps(torch.autograd.Function):
    """Differentiable in rotations and translations."""

    @staticmethod
    def forward(ctx: Any, rotation: Tensor, translation: Tensor, pivots: Tensor) -> Tensor:
        ctx.save_for_backward(rotation, pivots)
        n_states, n_parts = rotation.shape[:2]
        maps = rotation.new_empty(n_states, 3, n_parts, 4)
        turn = array_of(rotation)
        shift = array_of(translation)
        fixed = array_of(pivots)
        out = maps.numpy()
        over_rows(
            lambda rows: _make_maps(turn[rows], shift[rows], fixed, out[rows]), n_states, n_parts
        )
        return maps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rotation, pivots = ctx.saved_tensors
        grad_rotation = torch.empty_like(rotation, memory_format=torch.contiguous_format)
        turn, fixed, grad_maps = (array_of(t) for t in (rotation, pivots, gradients[0]))
        of_rotation = grad_rotation.numpy()

        def work(rows: slice) -> None:
            _maps_gradient(turn[rows], fixed, grad_maps[rows], of_rotation[rows])

        over_rows(work, *rotation.shape[:2])
        return grad_rotation, gradients[0][..., 0].mT, None


@compiled
@no_type_check
def _make_maps(rotation, translation, pivots, maps):
    """Set the maps (k, 3, m, 4) from R − 1 and what it does to the pivot."""
    one = rotation.dtype.type(1)
    for k in range(rotation.shape[0]):
        for m in range(rotation.shape[1]):
            u0, u1, u2 = rotation[k, m, 0], rotation[k, m, 1], rotation[k, m, 2]
            s = u0 * u0 + u1 * u1 + u2 * u2
            f, g, _, _ = rotation_coefficients(s, one)
            x, y, z = maps[k, 0, m], maps[k, 1, m], maps[k, 2, m]
            x[1], x[2], x[3] = g * (u0 * u0 - s), g * u0 * u1 - f * u2, g * u0 * u2 + f * u1
            y[1], y[2], y[3] = g * u1 * u0 + f * u2, g * (u1 * u1 - s), g * u1 * u2 - f * u0
            z[1], z[2], z[3] = g * u2 * u0 - f * u1, g * u2 * u1 + f * u0, g * (u2 * u2 - s)
            for i in range(3):
                row = maps[k, i, m]
                row[0] = translation[k, m, i] - (
                    row[1] * pivots[m, 0] + row[2] * pivots[m, 1] + row[3] * pivots[m, 2]
                )


@compiled
@no_type_check
def _maps_gradient(rotation, pivots, grad_maps, grad_rotation):
    """With G the gradient with respect to R − 1: that of each of the terms of the formula above,
    and of its f and g.
    """
    one = rotation.dtype.type(1)
    for k in range(rotation.shape[0]):
        for m in range(rotation.shape[1]):
            u0, u1, u2 = rotation[k, m, 0], rotation[k, m, 1], rotation[k, m, 2]
            p0, p1, p2 = pivots[m, 0], pivots[m, 1], pivots[m, 2]
            x, y, z = grad_maps[k, 0, m], grad_maps[k, 1, m], grad_maps[k, 2, m]
            g00, g01, g02 = x[1] - x[0] * p0, x[2] - x[0] * p1, x[3] - x[0] * p2
            g10, g11, g12 = y[1] - y[0] * p0, y[2] - y[0] * p1, y[3] - y[0] * p2
            g20, g21, g22 = z[1] - z[0] * p0, z[2] - z[0] * p1, z[3] - z[0] * p2
            s = u0 * u0 + u1 * u1 + u2 * u2
            f, g, slope_f, slope_g = rotation_coefficients(s, one)
            c0, c1, c2 = g21 - g12, g02 - g20, g10 - g01  # by [u]×
            # by u uᵀ: (G + Gᵀ) u
            h0 = 2 * g00 * u0 + (g01 + g10) * u1 + (g02 + g20) * u2
            h1 = (g01 + g10) * u0 + 2 * g11 * u1 + (g12 + g21) * u2
            h2 = (g02 + g20) * u0 + (g12 + g21) * u1 + 2 * g22 * u2
            trace = g00 + g11 + g22
            crossed = u0 * c0 + u1 * c1 + u2 * c2
            along = (u0 * h0 + u1 * h1 + u2 * h2) / 2
            radial = 2 * (slope_f * crossed + slope_g * (along - s * trace) - g * trace)
            grad_rotation[k, m, 0] = f * c0 + g * h0 + radial * u0
            grad_rotation[k, m, 1] = f * c1 + g * h1 + radial * u1
            grad_rotation[k, m, 2] = f * c2 + g * h2 + radial * u2
