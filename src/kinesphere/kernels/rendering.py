"""Fourier coefficients of points: spread, transform, pick; and the exact adjoint.

A type-1 non-uniform FFT (Dutt & Rokhlin 1993; Barnett, Magland & af Klinteberg 2019,
doi:10.1137/18M120885X) on the grid that `spreading` spreads on.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from kinesphere.kernels import bspline
from kinesphere.kernels.dispatch import on_cpu
from kinesphere.kernels.spreading import gather_gradient, spread

# Half a megabyte: stays in a core's cache from spreading to picking coefficients.
_GRID_VALUES_AT_ONCE = 1 << 17


@dataclass(frozen=True, eq=False)
class RenderPlan:
    """Which Fourier coefficients to render, and what that takes: made once, used for every image.

    Parameters
    ----------
    size
        Edge of the grid that points are spread on.
    pixel_angstrom
        Its pixel size in Å.
    index
        (m,) where the coefficients are in the flattened transform of the grid, columns first.
    factor
        (m,) real factor on each: one over the spline's transform, times an envelope if there is
        one.
    repeated
        (m,) whether the coefficient stands for its conjugate in the other half plane too (kx > 0).
    n_columns
        Columns kx = 0 … n_columns − 1 that hold all coefficients: the others are not transformed
        along y.
    """

    size: int
    pixel_angstrom: float
    index: Int[Tensor, " m"]
    factor: Float[Tensor, " m"]
    repeated: Bool[Tensor, " m"]
    n_columns: int

    @functools.cached_property
    def runs(self) -> tuple[Int[Tensor, " m"], Int[Tensor, "r two"]]:
        """Order of the coefficients by where they are, and the stretches without gaps then: (first,
        number) of each.
        """
        order = torch.argsort(self.index)
        place = self.index[order]
        starts = torch.cat(
            [torch.ones(1, dtype=torch.bool), place[1:] != place[:-1] + 1]
        ).nonzero()[:, 0]
        lengths = torch.diff(starts, append=torch.tensor([len(place)]))
        return order, torch.stack([place[starts], lengths], 1)

    @classmethod
    def of_frequencies(
        cls,
        size: int,
        pixel_angstrom: float,
        row: Int[Tensor, " m"],
        column: Int[Tensor, " m"],
        envelope: Float[Tensor, " m"] | None = None,
    ) -> RenderPlan:
        """Plan for integer frequencies ky, kx ≥ 0 in cycles per field of view, below Nyquist of the
        grid.
        """
        spline = torch.as_tensor(bspline.transform(np.fft.fftfreq(size)), device=row.device)
        # a negative row counts from the end, as frequencies do
        factor = 1.0 / (spline[row] * spline[column])
        if envelope is not None:
            factor = factor * envelope
        return cls(
            size,
            pixel_angstrom,
            column * size + torch.remainder(row, size),
            factor,
            column > 0,
            int(column.max()) + 1,
        )

    @property
    def adjoint_factor(self) -> Float[Tensor, " m"]:
        """(m,) factor on each gradient.

        A coefficient with kx > 0 is twice in the inverse of a real transform, once in the sum over
        half the plane.
        """
        return self.factor * torch.where(self.repeated, 0.5, 1.0)


def render_coefficients(
    points_xy: Float[Tensor, "b p 2"], amplitude: Float[Tensor, " p"], plan: RenderPlan
) -> Complex[Tensor, "b m"]:
    """Render points at the Fourier coefficients of a plan: factor · Σ_g a_g exp(−2πi k·x_g).

    Parameters
    ----------
    points_xy
        (n_images, n_points, 2) xy in Å, image centre at zero.
    amplitude
        (n_points,) integrated intensity of each point.
    plan
        The coefficients.

    Returns
    -------
    Tensor
        Complex (n_images, m), phase origin at the image centre; differentiable in points and
        amplitudes.
    """
    points_px = points_xy / plan.pixel_angstrom
    rendered: Tensor = _Render.apply(points_px, amplitude.to(points_xy), plan)
    return rendered


def structure_factor(
    points_xy: Float[Tensor, "b p 2"],
    amplitude: Float[Tensor, "*classes p"],
    plans: tuple[RenderPlan, ...],
) -> Complex[Tensor, "b m"]:
    """Add up the coefficients of points that have an amplitude in each of several classes."""
    of_class = amplitude.reshape(len(plans), -1)
    total = render_coefficients(points_xy, of_class[0], plans[0])
    for values, plan in zip(of_class[1:], plans[1:], strict=True):
        total = total + render_coefficients(points_xy, values, plan)
    return total


class _Render(torch.autograd.Function):
    """Spread, transform, pick coefficients; and the exact adjoint, which recomputes the footprints
    to save memory.

    One function rather than a chain of differentiable ones: the gradient of a real transform is
    then a real transform, and images are worked through in blocks that stay in the cache, below the
    size at which memory goes back to the system (3 times faster).
    """

    @staticmethod
    def forward(ctx: Any, points_px: Tensor, amplitude: Tensor, plan: RenderPlan) -> Tensor:
        ctx.save_for_backward(points_px, amplitude)
        ctx.plan = plan
        factor = plan.factor.to(points_px.dtype)
        rendered = [
            _transform(block, amplitude, plan).flatten(1).index_select(1, plan.index) * factor
            for block in _blocks(points_px, plan.size)
        ]
        return torch.cat(rendered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        points_px, amplitude = ctx.saved_tensors
        plan: RenderPlan = ctx.plan
        # halves are exact, so the precision of the points may come before or after them
        factor = plan.adjoint_factor.to(points_px.dtype)
        blocks = zip(_blocks(points_px, plan.size), _blocks(gradients[0], plan.size), strict=True)
        results = [
            gather_gradient(block, amplitude, _adjoint_transform(part * factor, plan))
            for block, part in blocks
        ]
        grad_points, grad_amplitude = (torch.cat(parts) for parts in zip(*results, strict=True))
        return grad_points, grad_amplitude.sum(0) if ctx.needs_input_grad[1] else None, None


def _blocks(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Divide what has one row an image into blocks whose grids fit the cache; a GPU takes all at
    once.
    """
    at_once = max(1, _GRID_VALUES_AT_ONCE // size**2) if on_cpu(values) else max(len(values), 1)
    return values.split(at_once)


def _transform(points_px: Tensor, amplitude: Tensor, plan: RenderPlan) -> Tensor:
    """Transform of spread points (b, n_columns, size), indexed [kx, ky]; the spline's transform is
    still on it.
    """
    rows = torch.fft.rfft(spread(points_px, amplitude, plan.size))[..., : plan.n_columns]
    return torch.fft.fft(rows.transpose(1, 2).contiguous())  # contiguous is 3 times quicker


def _adjoint_transform(gradient: Tensor, plan: RenderPlan) -> Tensor:
    """Gradient with respect to the spread grid from that with respect to the coefficients (b,
    m).
    """
    size = plan.size
    columns = gradient.new_zeros(len(gradient), plan.n_columns * size).index_copy_(
        1, plan.index, gradient
    )
    rows = (
        torch.fft.ifft(columns.reshape(-1, plan.n_columns, size), norm="forward")
        .transpose(1, 2)
        .contiguous()
    )
    return torch.fft.irfft(rows, n=size, norm="forward")
