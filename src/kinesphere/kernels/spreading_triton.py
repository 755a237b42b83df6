"""Spreading on a GPU: `spreading.spread` and its gradient as Triton kernels that add nothing to
memory others add to.

A grid is divided into tiles. Points are sorted by the tile of their first tap, and within it by
which edges of the tile their four by four taps cross, so that what a tile needs is its own points
and one stretch of each of three neighbours': those that cross into it, and no others. One program
sums up one tile as a product of two matrices, the weights along y (rows × points) and along x
(points × columns), and writes it once: no atomic operation, and the same result every time. The
gradient is read off at each point's taps. Nothing waits for the device: all sizes follow from the
shapes.

The kernels also run on the CPU under Triton's interpreter (`TRITON_INTERPRET=1`), which is how they
are tested where there is no GPU.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.kernels import spreading
from kinesphere.kernels.bspline import N_TAPS
from kinesphere.kernels.bspline_triton import slope, weight

TILE = 16
_CHUNK = 32
_BLOCK = 128
_CROSSINGS = 4  # of a tile's edges by a point's taps: none, x, both, y
# Multiply and add in one: Triton warns where its default is not named.
FUSED = {"enable_fp_fusion": True}
_MOST_POINTS = (1 << 31) - (1 << 10)


def spread(
    points_px: Float[Tensor, "b p 2"],
    amplitude: Float[Tensor, " p"],
    size: int,
    precision: str = "ieee",
) -> Float[Tensor, "b size size"]:
    """Spread points onto periodic grids: see `spreading.spread`.

    Parameters
    ----------
    points_px, amplitude, size
        As there, in single precision.
    precision
        How Triton multiplies matrices: `ieee`, or `tf32x3` on tensor cores.
    """
    if not _fits(points_px, size):
        return spreading.spread.reference(points_px, amplitude, size)
    points = points_px.contiguous()
    values = amplitude.contiguous()
    tiles = -(-size // TILE)
    grid = points.new_empty(len(points), size, size)
    order, edges = _sort_into_tiles(points, size, tiles)
    with torch.cuda.device_of(points):
        _fill_tiles[(len(points) * tiles**2,)](
            *(points, values, order, edges, grid, points.shape[1], size, tiles),
            TILE=TILE,
            CHUNK=_CHUNK,
            PRECISION=precision,
            num_warps=2,
            **FUSED,
        )
    return grid


def gather_gradient(
    points_px: Float[Tensor, "b p 2"],
    amplitude: Float[Tensor, " p"],
    grid_gradient: Float[Tensor, "b size size"],
) -> tuple[Float[Tensor, "b p 2"], Float[Tensor, "b p"]]:
    """Gradient of `spread` with respect to positions and amplitudes: see
    `spreading.gather_gradient`.
    """
    size = grid_gradient.shape[-1]
    if not _fits(points_px, size):
        return spreading.gather_gradient.reference(points_px, amplitude, grid_gradient)
    points, values, gradient = (
        points_px.contiguous(),
        amplitude.contiguous(),
        grid_gradient.contiguous(),
    )
    grad_points, grad_amplitude = torch.empty_like(points), torch.empty_like(points[..., 0])
    n_all = grad_amplitude.numel()
    with torch.cuda.device_of(points):
        _gather[(triton.cdiv(n_all, _BLOCK),)](
            *(points, values, gradient, grad_points, grad_amplitude, n_all, points.shape[1], size),
            BLOCK=_BLOCK,
            **FUSED,
        )
    return grad_points, grad_amplitude


def _fits(points: Float[Tensor, "b p 2"], size: int) -> bool:
    """Tell whether there is anything to do, taps differ, and numbers of points fit 32 bits."""
    return size >= N_TAPS and 0 < points.numel() // 2 <= _MOST_POINTS


def _sort_into_tiles(
    points: Float[Tensor, "b p 2"], size: int, tiles: int
) -> tuple[Int[Tensor, " bp"], Int[Tensor, " edges"]]:
    """Order the points of all images by tile and crossing, and say where in that order each such
    bin begins.
    """
    keys = torch.empty(points.shape[0] * points.shape[1], dtype=torch.int32, device=points.device)
    with torch.cuda.device_of(points):
        _make_keys[(triton.cdiv(len(keys), _BLOCK),)](
            points, keys, len(keys), points.shape[1], size, tiles, BLOCK=_BLOCK, **FUSED
        )
    ordered, order = keys.sort()
    bins = torch.arange(
        len(points) * tiles**2 * _CROSSINGS + 1, dtype=torch.int32, device=points.device
    )
    return order, torch.searchsorted(ordered, bins, out_int32=True)


@triton.jit
@no_type_check
def _locate(x, size):
    """First of the four taps around places on a periodic axis, and how far they are past the
    second.
    """
    low = tl.floor(x)
    # what is no number, or beyond all integers, goes to a tap that exists; the weights of no number
    # are none
    cell = tl.where(tl.abs(low) < 1e9, low, 0.0).to(tl.int32)
    return ((cell - 1) % size + size) % size, x - low


@triton.jit
@no_type_check
def read(page, x, y, size, inside):
    """Sum of a periodic grid's values under the splines of some places, and its derivatives along x
    and y.
    """
    first_x, past_x = _locate(x, size)
    first_y, past_y = _locate(y, size)
    value, grad_x, grad_y = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for tap_y in tl.static_range(4):
        row = first_y + tap_y
        row = tl.where(row >= size, row - size, row)
        along, rise = tl.zeros_like(x), tl.zeros_like(x)  # value and x slope of the row
        for tap_x in tl.static_range(4):
            column = first_x + tap_x
            column = tl.where(column >= size, column - size, column)
            at = tl.load(page + row * size + column, mask=inside, other=0.0)
            along += weight(tap_x - 1.0 - past_x) * at
            rise += slope(tap_x - 1.0 - past_x) * at
        value += weight(tap_y - 1.0 - past_y) * along
        grad_x += weight(tap_y - 1.0 - past_y) * rise
        grad_y += slope(tap_y - 1.0 - past_y) * along
    return value, grad_x, grad_y


@triton.jit
@no_type_check
def _load_point(points, number, inside):
    """Load x and y of points by number, which fits 32 bits where its double does not."""
    at = points + 2 * number.to(tl.int64)
    return tl.load(at, mask=inside, other=0.0), tl.load(at + 1, mask=inside, other=0.0)


@triton.jit
@no_type_check
def _tile_of(tap, size, tiles):
    """Tile a tap is in: tile t begins at ⌊t · size / tiles⌋, so that all are nearly equal and none
    is narrow.
    """
    return ((tap + 1) * tiles - 1) // size


@triton.jit
@no_type_check
def _make_keys(points, keys, n_all, n_points, size, tiles, BLOCK: tl.constexpr):
    """Find the bin of each point: image, tile along y, tile along x, edges crossed."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = number < n_all
    x, y = _load_point(points, number, inside)
    first_x, _ = _locate(x, size)
    first_y, _ = _locate(y, size)
    tile_x, tile_y = _tile_of(first_x, size, tiles), _tile_of(first_y, size, tiles)
    cross_x = _tile_of((first_x + 3) % size, size, tiles) != tile_x
    cross_y = _tile_of((first_y + 3) % size, size, tiles) != tile_y
    crossed = tl.where(cross_x, tl.where(cross_y, 2, 1), tl.where(cross_y, 3, 0))
    image = number // n_points
    tl.store(keys + number, 4 * ((image * tiles + tile_y) * tiles + tile_x) + crossed, mask=inside)


@triton.jit
@no_type_check
def _weights(place, tap, size):
    """Weights of points at consecutive taps of a tile."""
    first, past = _locate(place, size)
    ahead = tap - first
    return weight(tl.where(ahead < 0, ahead + size, ahead) - 1.0 - past)


@triton.jit
@no_type_check
def _fill_tiles(
    points,
    amplitude,
    order,
    edges,
    grid,
    n_points,
    size,
    tiles,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sum up one tile: its own points, and those of the tiles before it that cross into it."""
    tile = tl.program_id(0)
    tile_x, tile_y, image = tile % tiles, (tile // tiles) % tiles, tile // (tiles * tiles)
    line, line_before = image * tiles + tile_y, image * tiles + (tile_y + tiles - 1) % tiles
    x_before = (tile_x + tiles - 1) % tiles
    before_x, before_y = (
        edges + 4 * (line * tiles + x_before),
        edges + 4 * (line_before * tiles + tile_x),
    )
    before_both = edges + 4 * (line_before * tiles + x_before)
    # stretches of the sorted points: the tile's own, then those of three neighbours that cross over
    first = tl.load(edges + 4 * tile)
    from_x = tl.load(before_x + 1)
    from_y, from_both = tl.load(before_y + 2), tl.load(before_both + 2)
    n_inside = tl.load(edges + 4 * tile + 4) - first
    n_x = n_inside + tl.load(before_x + 3) - from_x
    n_y = n_x + tl.load(before_y + 4) - from_y
    n_all = n_y + tl.load(before_both + 3) - from_both
    # all tiles are worked through as if they were the largest; what is beyond is not stored
    start_x, start_y = tile_x * size // tiles, tile_y * size // tiles
    column, row = start_x + tl.arange(0, TILE), start_y + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), tl.float32)
    for done in range(0, n_all, CHUNK):
        i = done + tl.arange(0, CHUNK)
        place = tl.where(i < n_y, from_y + i - n_x, from_both + i - n_y)
        place = tl.where(i < n_inside, first + i, tl.where(i < n_x, from_x + i - n_inside, place))
        number = tl.load(order + place, mask=i < n_all, other=0).to(tl.int32)
        x, y = _load_point(points, number, i < n_all)
        value = tl.load(amplitude + (number - image * n_points), mask=i < n_all, other=0.0)
        # the sum over points of weight along y times weight along x is a product of two matrices
        along_y = _weights(y[None, :], row[:, None], size) * value[None, :]
        along_x = _weights(x[:, None], column[None, :], size)
        total = tl.dot(along_y, along_x, total, input_precision=PRECISION)
    at = grid + image.to(tl.int64) * size * size + row[:, None] * size + column[None, :]
    end_x, end_y = (tile_x + 1) * size // tiles, (tile_y + 1) * size // tiles
    tl.store(at, total, mask=(row < end_y)[:, None] & (column < end_x)[None, :])


@triton.jit
@no_type_check
def _gather(
    points,
    amplitude,
    gradient,
    grad_points,
    grad_amplitude,
    n_all,
    n_points,
    size,
    BLOCK: tl.constexpr,
):
    """Read the gradient at the taps of each point."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = number < n_all
    x, y = _load_point(points, number, inside)
    image = number // n_points
    value, grad_x, grad_y = read(gradient + image.to(tl.int64) * size * size, x, y, size, inside)
    strength = tl.load(amplitude + (number - image * n_points), mask=inside, other=0.0)
    at = grad_points + 2 * number.to(tl.int64)
    tl.store(at, grad_x * strength, mask=inside)
    tl.store(at + 1, grad_y * strength, mask=inside)
    tl.store(grad_amplitude + number, value, mask=inside)
