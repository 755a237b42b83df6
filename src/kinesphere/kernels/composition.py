"""How a residue follows two segments at once: the composition of rigid motions of section 3.4 of
the cryoSPHERE paper.

Two forms of one map: the paper's product over all segments, and that over the two segments a
residue belongs to most.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled, over_rows
from kinesphere.kernels.dispatch import operation

_SMALL = 1e-3  # below it, series: cos θ − sin θ / θ loses all its digits
# A membership that changes nothing, and by which the softmax it comes from multiplies its gradient.
_NEGLIGIBLE = 1e-7
_WHOLE = 1.0 - 1e-6  # a larger membership turns a point as 1 does, to rounding


def compose_all(
    points: Float[Tensor, "q 3"],
    membership: Float[Tensor, "q m"],
    rotation: Float[Tensor, "k m 3"],
    translation: Float[Tensor, "k m 3"],
    pivots: Float[Tensor, "m 3"],
) -> Float[Tensor, "k q 3"]:
    """Move points by the paper's exact composition (section 3.4): rotate by G_im δ_m for m = 1 … M,
    then translate.

    The reference for `compose_two`; its cost grows with the number of segments.
    """
    moved = points.expand(rotation.shape[0], -1, -1)
    for m in range(membership.shape[1]):
        matrix = roma.rotvec_to_rotmat(
            membership[:, m, None] * rotation[:, None, m]
        )  # (k, q, 3, 3)
        moved = pivots[m] + (matrix @ (moved - pivots[m])[..., None])[..., 0]
    return moved + torch.einsum("qm,kmc->kqc", membership, translation)


@operation(differentiable=(1, 3, 4))
def compose_two(
    points: Float[Tensor, "q 3"],
    membership: Float[Tensor, "q two"],
    segment: Int[Tensor, "q two"],
    rotation: Float[Tensor, "k m 3"],
    translation: Float[Tensor, "k m 3"],
    pivots: Float[Tensor, "m 3"],
) -> Float[Tensor, "k q 3"]:
    """Move points by their two largest memberships only: `compose_all` up to what the other
    memberships hold.

    At τ = 20 a residue between two segments has nothing left for a third, so this is exact to
    rounding at a cost that does not depend on the number of segments.

    Parameters
    ----------
    points
        (n_points, 3) in Å.
    membership, segment
        (n_points, 2) how much of a point's motion is that of a segment, and of which, in chain
        order.
    rotation, translation
        (k, n_segments, 3) rotation vectors in radians, and translations in Å.
    pivots
        (n_segments, 3) what the segments rotate about, in Å.
    """
    moved = points.expand(rotation.shape[0], -1, -1)
    shift = torch.zeros_like(moved)
    for rank in range(segment.shape[1]):
        which = segment[:, rank]
        weight = membership[:, rank, None]
        moved = pivots[which] + _rotate(weight * rotation[:, which], moved - pivots[which])
        shift = shift + weight * translation[:, which]
    return moved + shift


def _rotate(rotation_vector: Tensor, points: Tensor) -> Tensor:
    """Rodrigues' formula, smooth at zero rotation: sin θ / θ and (1 − cos θ) / θ² as functions of
    θ².
    """
    squared = (rotation_vector**2).sum(-1, keepdim=True)
    angle = torch.sqrt(squared + 1e-12)
    first = torch.sin(angle) / angle
    second = 0.5 * (torch.sin(0.5 * angle) / (0.5 * angle)) ** 2
    along = (rotation_vector * points).sum(-1, keepdim=True)
    # ω × (ω × x) = ω (ω · x) − |ω|² x saves the second product
    turned = (
        first * torch.linalg.cross(rotation_vector, points) + (second * along) * rotation_vector
    )
    return (1.0 - second * squared) * points + turned


@compose_two.on_cpu
def _compose_two_compiled(
    points: Tensor,
    membership: Tensor,
    segment: Tensor,
    rotation: Tensor,
    translation: Tensor,
    pivots: Tensor,
) -> Tensor:
    moved: Tensor = _ComposeTwo.apply(points, membership, segment, rotation, translation, pivots)
    return moved


@compose_two.takes
def _has_fixed_points(points: Tensor, *_: Tensor) -> bool:
    """Tell whether no gradient with respect to the points is asked for: the compiled one is not."""
    return not points.requires_grad


@compose_two.example
def _compose_two_example(dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    points = 20.0 * torch.randn(10, 3, generator=generator).to(dtype)
    first = torch.linspace(0.1, 0.9, 10, dtype=dtype)
    segment = torch.stack([torch.arange(10) % 3, 1 + torch.arange(10) % 3], 1)
    rotation, translation = torch.randn(2, 2, 4, 3, generator=generator).to(dtype)
    pivots = torch.randn(4, 3, generator=generator).to(dtype)
    return points, torch.stack([first, 1.0 - first], 1), segment, rotation, translation, pivots


class _ComposeTwo(torch.autograd.Function):
    """Differentiable in memberships, rotations and translations."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        membership: Tensor,
        segment: Tensor,
        rotation: Tensor,
        translation: Tensor,
        pivots: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(points, membership, segment, rotation, translation, pivots)
        moved = rotation.new_empty(len(rotation), *points.shape)
        fixed = [array_of(t) for t in (points, membership, segment, pivots)]
        turn = array_of(rotation)
        shift = array_of(translation)
        out = moved.numpy()
        over_rows(
            lambda rows: _move(*fixed, turn[rows], shift[rows], out[rows]),
            len(rotation),
            len(points),
        )
        return moved

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        points, membership, segment, rotation, translation, pivots = ctx.saved_tensors
        grad_membership = membership.new_zeros(len(rotation), *membership.shape)
        grad_rotation = torch.zeros_like(rotation)
        grad_translation = torch.zeros_like(translation)
        fixed = [array_of(t) for t in (points, membership, segment, pivots)]
        of_states = [array_of(t) for t in (rotation, translation, gradients[0])]
        of_states += [t.numpy() for t in (grad_membership, grad_rotation, grad_translation)]
        over_rows(
            lambda rows: _move_gradient(*fixed, *(array[rows] for array in of_states)),
            len(rotation),
            len(points),
        )
        return None, grad_membership.sum(0), None, grad_rotation, grad_translation, None


@compiled
@no_type_check
def rotation_coefficients(s, one):
    """Give sin θ / θ and (1 − cos θ) / θ² at s = θ², and the derivatives of both with respect to
    s.
    """
    if s < _SMALL:
        first, second = one - s / 6, one / 2 - s / 24
        return first, second, -one / 6 + s / 60, -one / 24 + s / 360
    angle = np.sqrt(s)
    cosine = np.cos(angle)
    first, second = np.sin(angle) / angle, (one - cosine) / s
    return first, second, (cosine - first) / (2 * s), (first / 2 - second) / s


@compiled
@no_type_check
def _turn(first, second, s, u0, u1, u2, x0, x1, x2):
    """Rotate x by the rotation vector u, |u|² = s (Rodrigues' formula)."""
    along = second * (u0 * x0 + u1 * x1 + u2 * x2)
    keep = 1 - second * s
    y0 = keep * x0 + first * (u1 * x2 - u2 * x1) + along * u0
    y1 = keep * x1 + first * (u2 * x0 - u0 * x2) + along * u1
    y2 = keep * x2 + first * (u0 * x1 - u1 * x0) + along * u2
    return y0, y1, y2


@compiled
@no_type_check
def _turn_by(u0, u1, u2, w, whole, one):
    """Give s = |u|² of a rotation vector u and the coefficients at it; for a point that belongs to
    one segment only, as most do, those of the whole turn, which are known.
    """
    if w > _WHOLE:
        return whole[0], whole[1], whole[2], whole[3], whole[4]
    s = u0 * u0 + u1 * u1 + u2 * u2
    first, second, slope1, slope2 = rotation_coefficients(s, one)
    return s, first, second, slope1, slope2


@compiled
@no_type_check
def _whole_turns(rotation):
    """Give for each rotation vector what `_turn_by` gives."""
    one = rotation.dtype.type(1)
    turns = np.zeros((rotation.shape[0], 5), rotation.dtype)
    for m in range(rotation.shape[0]):
        u0, u1, u2 = rotation[m, 0], rotation[m, 1], rotation[m, 2]
        s, first, second, slope1, slope2 = _turn_by(u0, u1, u2, 0 * one, turns[m], one)
        turns[m, 0], turns[m, 1], turns[m, 2] = s, first, second
        turns[m, 3], turns[m, 4] = slope1, slope2
    return turns


@compiled
@no_type_check
def _move(points, membership, segment, pivots, rotation, translation, moved):
    """Set where each state k takes each point q: `compose_two`."""
    one = points.dtype.type(1)
    for k in range(rotation.shape[0]):
        turns = _whole_turns(rotation[k])
        for q in range(points.shape[0]):
            x0, x1, x2 = points[q, 0], points[q, 1], points[q, 2]
            t0, t1, t2 = 0 * one, 0 * one, 0 * one
            for rank in range(segment.shape[1]):
                w = membership[q, rank]
                if w < _NEGLIGIBLE:
                    continue
                m = segment[q, rank]
                u0, u1, u2 = w * rotation[k, m, 0], w * rotation[k, m, 1], w * rotation[k, m, 2]
                p0, p1, p2 = pivots[m, 0], pivots[m, 1], pivots[m, 2]
                s, first, second, _, _ = _turn_by(u0, u1, u2, w, turns[m], one)
                y0, y1, y2 = _turn(first, second, s, u0, u1, u2, x0 - p0, x1 - p1, x2 - p2)
                x0, x1, x2 = p0 + y0, p1 + y1, p2 + y2
                t0 += w * translation[k, m, 0]
                t1 += w * translation[k, m, 1]
                t2 += w * translation[k, m, 2]
            moved[k, q, 0], moved[k, q, 1], moved[k, q, 2] = x0 + t0, x1 + t1, x2 + t2


@compiled
@no_type_check
def _move_gradient(
    points,
    membership,
    segment,
    pivots,
    rotation,
    translation,
    gradient,
    grad_membership,
    grad_rotation,
    grad_translation,
):
    """Go through the rotations forwards, keeping what each turns, and back with the gradient."""
    one = points.dtype.type(1)
    n_ranks = segment.shape[1]
    x = np.zeros((n_ranks, 3), points.dtype)  # what each rank rotates, from its pivot
    for k in range(rotation.shape[0]):
        turns = _whole_turns(rotation[k])
        for q in range(points.shape[0]):
            v0, v1, v2 = points[q, 0], points[q, 1], points[q, 2]
            for rank in range(n_ranks):
                m = segment[q, rank]
                w = membership[q, rank]
                p0, p1, p2 = pivots[m, 0], pivots[m, 1], pivots[m, 2]
                x[rank, 0], x[rank, 1], x[rank, 2] = v0 - p0, v1 - p1, v2 - p2
                if w < _NEGLIGIBLE or rank == n_ranks - 1:
                    continue
                u0, u1, u2 = w * rotation[k, m, 0], w * rotation[k, m, 1], w * rotation[k, m, 2]
                s, first, second, _, _ = _turn_by(u0, u1, u2, w, turns[m], one)
                y0, y1, y2 = _turn(first, second, s, u0, u1, u2, x[rank, 0], x[rank, 1], x[rank, 2])
                v0, v1, v2 = p0 + y0, p1 + y1, p2 + y2
            g0, g1, g2 = gradient[k, q, 0], gradient[k, q, 1], gradient[k, q, 2]
            h0, h1, h2 = g0, g1, g2  # gradient with respect to what the rank has rotated
            for rank in range(n_ranks - 1, -1, -1):
                m = segment[q, rank]
                w = membership[q, rank]
                if w < _NEGLIGIBLE:
                    continue
                r0, r1, r2 = rotation[k, m, 0], rotation[k, m, 1], rotation[k, m, 2]
                u0, u1, u2 = w * r0, w * r1, w * r2
                s, first, second, slope1, slope2 = _turn_by(u0, u1, u2, w, turns[m], one)
                x0, x1, x2 = x[rank, 0], x[rank, 1], x[rank, 2]
                ux, uh = u0 * x0 + u1 * x1 + u2 * x2, u0 * h0 + u1 * h1 + u2 * h2
                hx = h0 * x0 + h1 * x1 + h2 * x2
                c0, c1, c2 = x1 * h2 - x2 * h1, x2 * h0 - x0 * h2, x0 * h1 - x1 * h0  # x × h
                # d: gradient of h · (x turned by u) with respect to u; that of h · (u × x), which
                # is u · (x × h), is x × h; `radial` is what comes through s = |u|²
                triple = u0 * c0 + u1 * c1 + u2 * c2
                radial = 2 * (slope1 * triple + slope2 * (ux * uh - s * hx) - second * hx)
                d0 = first * c0 + second * (ux * h0 + uh * x0) + radial * u0
                d1 = first * c1 + second * (ux * h1 + uh * x1) + radial * u1
                d2 = first * c2 + second * (ux * h2 + uh * x2) + radial * u2
                grad_rotation[k, m, 0] += w * d0
                grad_rotation[k, m, 1] += w * d1
                grad_rotation[k, m, 2] += w * d2
                grad_translation[k, m, 0] += w * g0
                grad_translation[k, m, 1] += w * g1
                grad_translation[k, m, 2] += w * g2
                shift = (
                    g0 * translation[k, m, 0]
                    + g1 * translation[k, m, 1]
                    + g2 * translation[k, m, 2]
                )
                grad_membership[k, q, rank] = d0 * r0 + d1 * r1 + d2 * r2 + shift
                # the transpose of a rotation turns back
                h0, h1, h2 = _turn(first, second, s, -u0, -u1, -u2, h0, h1, h2)
