"""Spreading points onto grids with a cubic B-spline, and the gradient of that: the renderer's inner
loops.

Compiled, points are worked through in chunks: where they are on the grid comes from loops that the
compiler turns into vector instructions, and only adding them to the grid goes point by point
(`taps`). The grid has a margin as wide as the spline, which is folded back at the end, so that no
point has to ask whether it is near an edge.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinesphere.kernels import bspline
from kinesphere.kernels.bspline import N_TAPS
from kinesphere.kernels.compiled import array_of, compiled, over_rows
from kinesphere.kernels.dispatch import operation
from kinesphere.kernels.taps import add_taps, read_taps

CHUNK = 64
_TRITON = "kinesphere.kernels.spreading_triton"


@operation(triton=_TRITON, tolerance=1e-5)
def spread(
    points_px: Float[Tensor, "b p 2"], amplitude: Float[Tensor, " p"], size: int
) -> Float[Tensor, "b size size"]:
    """Spread points onto periodic grids.

    Parameters
    ----------
    points_px
        (n_images, n_points, 2) xy in pixels of the grid; the grid's point [0, 0] is at zero.
    amplitude
        (n_points,) what each point adds up to on the grid.
    size
        Size of the grids.

    Returns
    -------
    Tensor
        (n_images, size, size), indexed [y, x].
    """
    index, t = _footprint(points_px, size)
    weight_y, weight_x = bspline.weights(t[..., 1]), bspline.weights(t[..., 0])
    values = (amplitude[:, None] * weight_y)[..., :, None] * weight_x[..., None, :]
    flat = points_px.new_zeros(points_px.shape[0] * size * size)
    return flat.scatter_add_(0, index.reshape(-1), values.reshape(-1)).reshape(-1, size, size)


@operation(triton=_TRITON, tolerance=1e-5)
def gather_gradient(
    points_px: Float[Tensor, "b p 2"],
    amplitude: Float[Tensor, " p"],
    grid_gradient: Float[Tensor, "b size size"],
) -> tuple[Float[Tensor, "b p 2"], Float[Tensor, "b p"]]:
    """Gradient of `spread` with respect to positions, and to the amplitude of each point in each
    image.

    Parameters
    ----------
    points_px, amplitude
        As in `spread`.
    grid_gradient
        (n_images, size, size) gradient with respect to the grids.
    """
    index, t = _footprint(points_px, grid_gradient.shape[-1])
    patch = (
        grid_gradient.reshape(-1).index_select(0, index.reshape(-1)).reshape(index.shape)
    )  # (b, p, 4 along y, 4 along x)
    weight_y, weight_x = bspline.weights(t[..., 1]), bspline.weights(t[..., 0])
    along_x = (patch * weight_y[..., :, None]).sum(-2)
    along_y = (patch * weight_x[..., None, :]).sum(-1)
    grad_x = (along_x * bspline.slopes(t[..., 0])).sum(-1)
    grad_y = (along_y * bspline.slopes(t[..., 1])).sum(-1)
    grad_points = torch.stack([grad_x, grad_y], -1) * amplitude[:, None]
    return grad_points, (along_x * weight_x).sum(-1)


def _footprint(
    points_px: Float[Tensor, "b p 2"], size: int
) -> tuple[Tensor, Float[Tensor, "b p 2"]]:
    """Flat grid indices (b, p, 4, 4) that each point touches, and how far it is past its second
    taps.
    """
    first = torch.floor(points_px) - 1.0
    t = points_px - first - 1.0
    taps = torch.arange(N_TAPS, device=points_px.device)
    cell = torch.remainder(first.to(torch.int64)[..., None] + taps, size)  # (b, p, xy, 4)
    image = torch.arange(points_px.shape[0], device=points_px.device)[:, None, None] * (size * size)
    index = (cell[..., 1, :] * size + image)[..., :, None] + cell[..., 0, None, :]
    return index, t


@spread.on_cpu
def _spread_compiled(points_px: Tensor, amplitude: Tensor, size: int) -> Tensor:
    grid = points_px.new_empty(len(points_px), size, size)
    points = array_of(points_px)
    values = array_of(amplitude)
    pages = grid.numpy()
    over_rows(lambda rows: _spread(points[rows], values, pages[rows]), *points.shape[:2])
    return grid


@gather_gradient.on_cpu
def _gather_gradient_compiled(
    points_px: Tensor, amplitude: Tensor, grid_gradient: Tensor
) -> tuple[Tensor, Tensor]:
    grad_points = torch.empty_like(points_px)
    grad_amplitude = torch.empty_like(points_px[..., 0])
    points, values, pages = (array_of(t) for t in (points_px, amplitude, grid_gradient))
    of_points = grad_points.numpy()
    of_amplitude = grad_amplitude.numpy()

    def gather(rows: slice) -> None:
        _gather(points[rows], values, pages[rows], of_points[rows], of_amplitude[rows])

    over_rows(gather, *points.shape[:2])
    return grad_points, grad_amplitude


_EXAMPLE_SIZE = 33  # tiles of a Triton kernel of several sizes, and edges that points wrap around


def _example_points(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = 12.0 * torch.randn(2, 50, 2, generator=generator).to(dtype)
    return points, torch.linspace(0.5, 2.0, 50, dtype=dtype)


@spread.example
def _spread_example(dtype: torch.dtype) -> tuple[Tensor, Tensor, int]:
    return *_example_points(dtype), _EXAMPLE_SIZE


@gather_gradient.example
def _gather_gradient_example(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    shape = (2, _EXAMPLE_SIZE, _EXAMPLE_SIZE)
    pages = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return *_example_points(dtype), pages


@compiled
@no_type_check
def locate(x, y, at, n_rows, width):
    """Turn places (x, y) in pixels, in situ, into how far they are past a tap, and where their
    first tap is.

    The grid is periodic, of `n_rows` rows of `width` - 3 values, and flattened with a margin: one
    row and column before it, two behind. Its [1, 1] is at zero.
    """
    one = x.dtype.type(1)
    zero = 0 * one
    long, high = one * (width - 3), one * n_rows
    # a product takes a fraction of the time of a quotient
    per_long, per_high = one / long, one / high
    last_x, last_y = long - one, high - one
    for j in range(x.shape[0]):
        # into the period
        px = x[j] - long * np.floor(x[j] * per_long)
        py = y[j] - high * np.floor(y[j] * per_high)
        fx, fy = np.floor(px), np.floor(py)
        # what is no number compares as false: its cell is one of the grid's, its weights stay no
        # numbers
        fx = max(zero, fx)
        fy = max(zero, fy)
        fx = min(last_x, fx)
        fy = min(last_y, fy)
        x[j] = px - fx
        y[j] = py - fy
        at[j] = np.int32(fy) * np.int32(width) + np.int32(fx)


@compiled
@no_type_check
def fold(margin, page):
    """Copy a flat grid with a margin to one without, the margin being added at the other side."""
    n_rows, size = page.shape
    width = size + 3
    # the rows of the grid itself, with what their margins hold
    for row in range(n_rows):
        start = (row + 1) * width
        for x in range(size):
            page[row, x] = margin[start + 1 + x]
        page[row, size - 1] += margin[start]
        page[row, 0] += margin[start + size + 1]
        page[row, 1] += margin[start + size + 2]
    # the row before the first, and the two behind the last
    for outside in range(3):
        start = (0 if outside == 0 else n_rows + outside) * width
        row = n_rows - 1 if outside == 0 else outside - 1
        for x in range(size):
            page[row, x] += margin[start + 1 + x]
        page[row, size - 1] += margin[start]
        page[row, 0] += margin[start + size + 1]
        page[row, 1] += margin[start + size + 2]


@compiled
@no_type_check
def unfold(page, margin):
    """Copy a grid to a flat one with a margin, which repeats the other side: the adjoint of
    `fold`.
    """
    n_rows, size = page.shape
    width = size + 3
    for row in range(n_rows + 3):
        source = page[(row - 1) % n_rows]
        start = row * width
        for x in range(size):
            margin[start + 1 + x] = source[x]
        margin[start] = source[size - 1]
        margin[start + size + 1] = source[0]
        margin[start + size + 2] = source[1]


@compiled
@no_type_check
def _spread(points, amplitude, grid):
    """Spread points (b, p, 2) onto grids (b, rows, size)."""
    kind = points.dtype
    n_points, n_rows, width = points.shape[1], grid.shape[1], grid.shape[2] + 3
    margin = np.empty((n_rows + 3) * width, kind)
    x = np.empty(CHUNK, kind)
    y = np.empty(CHUNK, kind)
    at = np.empty(CHUNK, np.int32)
    for b in range(points.shape[0]):
        margin[:] = 0
        for first in range(0, n_points, CHUNK):
            n = min(CHUNK, n_points - first)
            for j in range(n):  # x and y apart, as vector instructions need them
                x[j] = points[b, first + j, 0]
                y[j] = points[b, first + j, 1]
            locate(x[:n], y[:n], at, n_rows, width)
            for j in range(n):
                add_taps(margin, at[j], width, x[j], y[j], amplitude[first + j])
        fold(margin, grid[b])


@compiled
@no_type_check
def _gather(points, amplitude, gradient, grad_points, grad_amplitude):
    """Read the gradient in grids (b, rows, size) at the taps of each point."""
    kind = points.dtype
    n_points, n_rows, width = points.shape[1], gradient.shape[1], gradient.shape[2] + 3
    margin = np.empty((n_rows + 3) * width, kind)
    x = np.empty(CHUNK, kind)
    y = np.empty(CHUNK, kind)
    at = np.empty(CHUNK, np.int32)
    for b in range(points.shape[0]):
        unfold(gradient[b], margin)
        for first in range(0, n_points, CHUNK):
            n = min(CHUNK, n_points - first)
            for j in range(n):  # x and y apart, as vector instructions need them
                x[j] = points[b, first + j, 0]
                y[j] = points[b, first + j, 1]
            locate(x[:n], y[:n], at, n_rows, width)
            for j in range(n):
                value, along_x, along_y = read_taps(margin, at[j], width, x[j], y[j])
                grad_points[b, first + j, 0] = along_x * amplitude[first + j]
                grad_points[b, first + j, 1] = along_y * amplitude[first + j]
                grad_amplitude[b, first + j] = value
