"""How a residue follows two segments at once: the composition of rigid motions of section 3.4 of
the cryoSPHERE paper.

Three forms of one map: the paper's product over all segments, that over the two segments a residue
belongs to most, and the latter with its gradient as compiled loops for the CPU.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled, over_rows

_SMALL = 1e-3  # below it, series: cos θ − sin θ / θ loses all its digits
# A share that changes nothing, and whose gradient the softmax it comes from multiplies by itself.
_NEGLIGIBLE = 1e-7


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


def compose_two(
    points: Float[Tensor, "q 3"],
    share: Float[Tensor, "q two"],
    segment: Int[Tensor, "q two"],
    rotation: Float[Tensor, "k m 3"],
    translation: Float[Tensor, "k m 3"],
    pivots: Float[Tensor, "m 3"],
) -> Float[Tensor, "k q 3"]:
    """Move points by their two largest memberships only: `compose_all` up to what the other
    memberships hold.

    At τ = 20 a residue between two segments has nothing left for a third, so this is exact to
    rounding at a cost that does not depend on the number of segments.
    """
    tensors = (points, share, segment, rotation, translation, pivots)
    if any(t.device.type != "cpu" for t in tensors) or points.requires_grad:
        return compose_two_reference(*tensors)
    moved: Tensor = _ComposeTwo.apply(*tensors)
    return moved


def compose_two_reference(
    points: Tensor,
    share: Tensor,
    segment: Tensor,
    rotation: Tensor,
    translation: Tensor,
    pivots: Tensor,
) -> Tensor:
    """`compose_two` in torch, on any device and differentiable in everything."""
    moved = points.expand(rotation.shape[0], -1, -1)
    shift = torch.zeros_like(moved)
    for rank in range(segment.shape[1]):
        which, weight = segment[:, rank], share[:, rank, None]
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


class _ComposeTwo(torch.autograd.Function):
    """Differentiable in shares, rotations and translations."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        share: Tensor,
        segment: Tensor,
        rotation: Tensor,
        translation: Tensor,
        pivots: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(points, share, segment, rotation, translation, pivots)
        moved = rotation.new_empty(len(rotation), *points.shape)
        fixed = [array_of(t) for t in (points, share, segment, pivots)]
        turn, shift, out = array_of(rotation), array_of(translation), moved.numpy()
        over_rows(
            lambda rows: _move(*fixed, turn[rows], shift[rows], out[rows]),
            len(rotation),
            len(points),
        )
        return moved

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        points, share, segment, rotation, translation, pivots = ctx.saved_tensors
        by_share = share.new_zeros(len(rotation), *share.shape)
        by_rotation, by_translation = torch.zeros_like(rotation), torch.zeros_like(translation)
        fixed = [array_of(t) for t in (points, share, segment, pivots)]
        known = [array_of(t) for t in (rotation, translation, gradients[0])]
        wanted = [t.numpy() for t in (by_share, by_rotation, by_translation)]

        def work(rows: slice) -> None:
            _move_gradient(*fixed, *(a[rows] for a in known), *(a[rows] for a in wanted))

        over_rows(work, len(rotation), len(points))
        return None, by_share.sum(0), None, by_rotation, by_translation, None


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
def _move(points, share, segment, pivots, rotation, translation, moved):
    one = points.dtype.type(1)
    for k in range(rotation.shape[0]):
        for q in range(points.shape[0]):
            x0, x1, x2 = points[q, 0], points[q, 1], points[q, 2]
            t0, t1, t2 = 0 * one, 0 * one, 0 * one
            for rank in range(segment.shape[1]):
                w = share[q, rank]
                if w < _NEGLIGIBLE:
                    continue
                m = segment[q, rank]
                u0, u1, u2 = w * rotation[k, m, 0], w * rotation[k, m, 1], w * rotation[k, m, 2]
                p0, p1, p2 = pivots[m, 0], pivots[m, 1], pivots[m, 2]
                s = u0 * u0 + u1 * u1 + u2 * u2
                first, second, _, _ = rotation_coefficients(s, one)
                y0, y1, y2 = _turn(first, second, s, u0, u1, u2, x0 - p0, x1 - p1, x2 - p2)
                x0, x1, x2 = p0 + y0, p1 + y1, p2 + y2
                t0 += w * translation[k, m, 0]
                t1 += w * translation[k, m, 1]
                t2 += w * translation[k, m, 2]
            moved[k, q, 0], moved[k, q, 1], moved[k, q, 2] = x0 + t0, x1 + t1, x2 + t2


@compiled
@no_type_check
def _move_gradient(
    points, share, segment, pivots, rotation, translation, gradient, by_share, by_turn, by_shift
):
    one = points.dtype.type(1)
    n_ranks = segment.shape[1]
    x = np.zeros((n_ranks, 3), points.dtype)  # what each rank rotates, from its pivot
    for k in range(rotation.shape[0]):
        for q in range(points.shape[0]):
            v0, v1, v2 = points[q, 0], points[q, 1], points[q, 2]
            for rank in range(n_ranks):
                m, w = segment[q, rank], share[q, rank]
                p0, p1, p2 = pivots[m, 0], pivots[m, 1], pivots[m, 2]
                x[rank, 0], x[rank, 1], x[rank, 2] = v0 - p0, v1 - p1, v2 - p2
                if w < _NEGLIGIBLE or rank == n_ranks - 1:
                    continue
                u0, u1, u2 = w * rotation[k, m, 0], w * rotation[k, m, 1], w * rotation[k, m, 2]
                s = u0 * u0 + u1 * u1 + u2 * u2
                first, second, _, _ = rotation_coefficients(s, one)
                y0, y1, y2 = _turn(first, second, s, u0, u1, u2, x[rank, 0], x[rank, 1], x[rank, 2])
                v0, v1, v2 = p0 + y0, p1 + y1, p2 + y2
            g0, g1, g2 = gradient[k, q, 0], gradient[k, q, 1], gradient[k, q, 2]
            h0, h1, h2 = g0, g1, g2  # gradient with respect to what the rank has rotated
            for rank in range(n_ranks - 1, -1, -1):
                m, w = segment[q, rank], share[q, rank]
                if w < _NEGLIGIBLE:
                    continue
                r0, r1, r2 = rotation[k, m, 0], rotation[k, m, 1], rotation[k, m, 2]
                u0, u1, u2 = w * r0, w * r1, w * r2
                s = u0 * u0 + u1 * u1 + u2 * u2
                first, second, slope1, slope2 = rotation_coefficients(s, one)
                x0, x1, x2 = x[rank, 0], x[rank, 1], x[rank, 2]
                ux, uh = u0 * x0 + u1 * x1 + u2 * x2, u0 * h0 + u1 * h1 + u2 * h2
                hx = h0 * x0 + h1 * x1 + h2 * x2
                c0, c1, c2 = x1 * h2 - x2 * h1, x2 * h0 - x0 * h2, x0 * h1 - x1 * h0  # x × h
                # h · (u × x) = u · (x × h)
                triple = u0 * c0 + u1 * c1 + u2 * c2
                radial = 2 * (slope1 * triple + slope2 * (ux * uh - s * hx) - second * hx)
                d0 = first * c0 + second * (ux * h0 + uh * x0) + radial * u0
                d1 = first * c1 + second * (ux * h1 + uh * x1) + radial * u1
                d2 = first * c2 + second * (ux * h2 + uh * x2) + radial * u2
                by_turn[k, m, 0] += w * d0
                by_turn[k, m, 1] += w * d1
                by_turn[k, m, 2] += w * d2
                by_shift[k, m, 0] += w * g0
                by_shift[k, m, 1] += w * g1
                by_shift[k, m, 2] += w * g2
                shift = (
                    g0 * translation[k, m, 0]
                    + g1 * translation[k, m, 1]
                    + g2 * translation[k, m, 2]
                )
                by_share[k, q, rank] = d0 * r0 + d1 * r1 + d2 * r2 + shift
                h0, h1, h2 = _turn(first, second, s, -u0, -u1, -u2, h0, h1, h2)
