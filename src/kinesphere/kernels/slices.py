"""Inserting slices into a Fourier volume, and reading them out of it.

Volumes are halves, `[kz, ky, kx]` with kx ≥ 0: what would be at kx < 0 goes to its Friedel mate, as
the conjugate. All use the cubic B-spline, four taps along each axis.
"""

from __future__ import annotations

from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kinesphere.kernels import bspline
from kinesphere.kernels.bspline import N_TAPS, WEIGHTS, weights_of_one
from kinesphere.kernels.compiled import compiled
from kinesphere.kernels.dispatch import operation
from kinesphere.kernels.simd import Lanes

_PARTS = 3


@operation(dtypes=(torch.float32,))
def insert_slices(
    volume: Float[np.ndarray, "size size half 3"],
    data: Complex[np.ndarray, "b m"],
    precision: Float[np.ndarray, "b m"],
    rotation: Float[np.ndarray, "b 3 3"],
    kx: Float[np.ndarray, " m"],
    ky: Float[np.ndarray, " m"],
    weight: Float[np.ndarray, " m"],
    scale: float | np.float32,
) -> None:
    """Add central slices to a Fourier volume: transposed interpolation, every coefficient with its
    Friedel mate.

    Parameters
    ----------
    volume
        (size, size, size // 2 + 1, 3) float32, added to: real part, imaginary part, precision;
        `[kz, ky, kx]`.
    data
        (b, m) complex64 coefficients.
    precision
        (b, m) float32.
    rotation
        (b, 3, 3) R with x_image = Rᵀ · x_volume.
    kx, ky
        (m,) frequencies of the coefficients, float32 in cycles per image box.
    weight
        (m,) float32: 1 where a coefficient stands for two, ½ where its mate is given too, or is
        itself.
    scale
        Volume grid points per cycle.
    """
    values = weight[:, None] * np.stack([data.real, data.imag, precision], axis=-1)
    _insert(volume, values, np.array([1, -1, 1]), _footprints(rotation, kx, ky, scale))


@operation(dtypes=(torch.float32,))
def insert_components(
    volume: Float[np.ndarray, "size size half values"],
    data: Complex[np.ndarray, "b m"],
    precision: Float[np.ndarray, "b m"],
    factors: Float[np.ndarray, "b c"],
    rotation: Float[np.ndarray, "b 3 3"],
    kx: Float[np.ndarray, " m"],
    ky: Float[np.ndarray, " m"],
    weight: Float[np.ndarray, " m"],
    scale: float | np.float32,
) -> None:
    """Add central slices times each of some factors, and precisions times each pair of factors:
    normal equations.

    Parameters
    ----------
    volume
        (size, size, size // 2 + 1, 2 c + c (c + 1) / 2) float32, added to: real and imaginary parts
        for each factor, then precisions for each pair (0, 0), (0, 1) … (0, c − 1), (1, 1) …; `[kz,
        ky, kx]`.
    data, precision, rotation, kx, ky, weight, scale
        As for `insert_slices`.
    factors
        (b, c) float32.
    """
    n_factors = factors.shape[1]
    one, other = np.triu_indices(n_factors)
    parts = np.stack([data.real, data.imag], axis=-1)[:, :, None] * factors[:, None, :, None]
    pairs = precision[..., None] * (factors[:, one] * factors[:, other])[:, None]
    values = weight[:, None] * np.concatenate([parts.reshape(*data.shape, -1), pairs], axis=-1)
    conjugate = np.array([1, -1] * n_factors + [1] * len(one))
    _insert(volume, values, conjugate, _footprints(rotation, kx, ky, scale))


@operation(dtypes=(torch.float32,))
def sample_slices(
    slices: Float[np.ndarray, "b m values"],
    volume: Float[np.ndarray, "size size half values"],
    rotation: Float[np.ndarray, "b 3 3"],
    kx: Float[np.ndarray, " m"],
    ky: Float[np.ndarray, " m"],
    scale: float | np.float32,
) -> None:
    """Read central slices out of some Fourier volumes, interpolated between grid points.

    Parameters
    ----------
    slices
        (b, m, 2 c) float32, set: real and imaginary parts for each volume.
    volume
        (size, size, size // 2 + 1, 2 c) float32, `[kz, ky, kx]`, the plane kx = 0 complete.
    rotation, kx, ky, scale
        As for `insert_slices`.
    """
    size, width, n_values = volume.shape[1:]
    conjugate = np.tile([1, -1], n_values // 2)
    points, weight, is_mate = _footprints(rotation, kx, ky, scale)
    mirrored = (points[..., 0] < 0) | (points[..., 0] >= width)
    x, y, z = np.moveaxis(np.where(mirrored[..., None], -points, points) % size, -1, 0)
    values = np.where(mirrored[..., None], conjugate, 1) * volume[z, y, x]  # (b, m, 64, values)
    slices[:] = np.einsum("bmtv,bmt->bmv", values, weight)
    slices[:] *= np.where(is_mate[..., None], conjugate, 1)


class _Footprints(NamedTuple):
    """Grid points under the splines of some coefficients, or of their mates where these have
    kx ≥ 0.
    """

    points: Int[np.ndarray, "b m 64 3"]  # kx, ky, kz
    weight: Float[np.ndarray, "b m 64"]
    is_mate: Bool[np.ndarray, "b m"]


def _footprints(
    rotation: NDArray[np.floating],
    kx: NDArray[np.floating],
    ky: NDArray[np.floating],
    scale: float | np.float32,
) -> _Footprints:
    k = np.stack([kx, ky], axis=1).astype(np.float64)
    place = float(scale) * np.einsum("bci,mi->bmc", rotation[:, :, :2], k)  # (b, m, xyz)
    is_mate = place[..., 0] < 0
    place = np.where(is_mate[..., None], -place, place)
    low = np.floor(place)
    along = bspline.weights(torch.from_numpy(place - low)).numpy()  # (b, m, xyz, 4)
    taps = np.stack(np.meshgrid(*(np.arange(N_TAPS),) * 3, indexing="ij"), -1).reshape(-1, 3)
    points = low[:, :, None].astype(np.int64) + taps - 1
    weight = np.einsum("bmx,bmy,bmz->bmxyz", *np.moveaxis(along, 2, 0))
    return _Footprints(points, weight.reshape(*place.shape[:2], -1), is_mate)


def _insert(
    volume: NDArray[np.float32],
    values: NDArray[np.floating],
    conjugate: NDArray[np.int64],
    footprints: _Footprints,
) -> None:
    """Add values (b, m, v), which `conjugate` turns to those of the Friedel mate; none beyond the
    volume's Nyquist.
    """
    size, width = volume.shape[1:3]
    points, weight, is_mate = footprints
    values = np.where(is_mate[..., None], conjugate, 1) * values
    mirrored = points[..., :1] < 0
    added = np.where(mirrored, conjugate, 1) * values[:, :, None] * weight[..., None]
    points = np.where(mirrored, -points, points)
    inside = points[..., 0] < width
    x, y, z = np.moveaxis(points[inside], -1, 0)
    np.add.at(volume, (z % size, y % size, x), added[inside].astype(np.float32))


def _example_slices() -> tuple[Any, ...]:
    """Five coefficients, of three images; some lie at kx < 0, some beyond Nyquist."""
    draw = np.random.default_rng(0)
    data = (draw.normal(size=(3, 5)) + 1j * draw.normal(size=(3, 5))).astype(np.complex64)
    rotation = np.linalg.qr(draw.normal(size=(3, 3, 3)))[0].astype(np.float32)
    kx, ky = np.array([[0, 1, 2, 3, 5], [0, -2, 3, 1, 2]], dtype=np.float32)
    weight = np.array([0.5, 1, 1, 0.5, 1], dtype=np.float32)
    precision = draw.random((3, 5)).astype(np.float32)
    return data, precision, rotation, kx, ky, weight


@insert_slices.example
def _insert_slices_example(_dtype: torch.dtype) -> tuple[Any, ...]:
    volume = np.zeros((10, 10, 6, _PARTS), dtype=np.float32)
    return volume, *_example_slices(), np.float32(1.5)


@insert_components.example
def _insert_components_example(_dtype: torch.dtype) -> tuple[Any, ...]:
    volume = np.zeros((10, 10, 6, 7), dtype=np.float32)
    factors = np.array([[1, 0.3], [1, -0.8], [1, 1.7]], dtype=np.float32)
    data, precision, *others = _example_slices()
    return volume, data, precision, factors, *others, np.float32(1.5)


@sample_slices.example
def _sample_slices_example(_dtype: torch.dtype) -> tuple[Any, ...]:
    volume = np.random.default_rng(1).normal(size=(10, 10, 6, 4)).astype(np.float32)
    _, _, rotation, kx, ky, _ = _example_slices()
    return np.empty((3, 5, 4), dtype=np.float32), volume, rotation, kx, ky, np.float32(1.5)


@compiled
@no_type_check
def _add_along_x(flat, plane, line, first, along, values, factor):
    """Add three numbers at four grid points of a line of the volume; those at negative kx go to
    their mates.
    """
    size = flat.shape[0]
    width = flat.shape[2] // 3
    real, imaginary, weight = factor * values[0], factor * values[1], factor * values[2]
    mate_plane, mate_line = (size - plane) % size, (size - line) % size
    for tap in range(4):
        at = first + tap
        if 0 <= at < width:
            flat[plane, line, 3 * at] += along[tap] * real
            flat[plane, line, 3 * at + 1] += along[tap] * imaginary
            flat[plane, line, 3 * at + 2] += along[tap] * weight
        elif at < 0:
            flat[mate_plane, mate_line, -3 * at] += along[tap] * real
            flat[mate_plane, mate_line, -3 * at + 1] -= along[tap] * imaginary
            flat[mate_plane, mate_line, -3 * at + 2] += along[tap] * weight


@compiled
@no_type_check
def _locate(turn, kx, ky, scale):
    """First grid point along z, y and x under the spline of a coefficient, and how far that is past
    the second.

    Where kx < 0 they are those of its mate.
    """
    place_x = scale * (turn[0, 0] * kx + turn[0, 1] * ky)
    place_y = scale * (turn[1, 0] * kx + turn[1, 1] * ky)
    place_z = scale * (turn[2, 0] * kx + turn[2, 1] * ky)
    is_mate = place_x < 0
    if is_mate:
        place_x, place_y, place_z = -place_x, -place_y, -place_z
    low_x, low_y, low_z = np.floor(place_x), np.floor(place_y), np.floor(place_z)
    first = (int(low_z) - 1, int(low_y) - 1, int(low_x) - 1)
    return first, (place_z - low_z, place_y - low_y, place_x - low_x), is_mate


@compiled
@no_type_check
def _taps(turn, kx, ky, scale):
    """First grid point and four weights along z, y and x of a coefficient, or of its mate where
    that has kx ≥ 0.
    """
    (plane, line, column), past, is_mate = _locate(turn, kx, ky, scale)
    return (
        plane,
        line,
        column,
        (weights_of_one(past[0]), weights_of_one(past[1]), weights_of_one(past[2])),
        is_mate,
    )


@insert_slices.on_cpu
@compiled
@no_type_check
def _insert_slices(volume, data, precision, rotation, kx, ky, weight, scale):
    """See the operation."""
    size = volume.shape[0]
    width = volume.shape[2]
    lines = volume.reshape(size, size, width * 3)
    flat = volume.reshape(-1)
    for image in range(len(data)):
        for item in range(len(kx)):
            (plane_0, line_0, column_0), past, is_mate = _locate(
                rotation[image], kx[item], ky[item], scale
            )
            amount = weight[item]
            real, imaginary = amount * data[image, item].real, amount * data[image, item].imag
            values = (real, -imaginary if is_mate else imaginary, amount * precision[image, item])
            along_z, along_y = weights_of_one(past[0]), weights_of_one(past[1])
            # nearly all: their taps lie side by side, and none is a mate
            is_inside = 0 <= column_0 <= width - 4
            for tap_z in range(4):
                plane = _wrapped(plane_0 + tap_z, size)
                for tap_y in range(4):
                    line = _wrapped(line_0 + tap_y, size)
                    factor = along_z[tap_z] * along_y[tap_y]
                    if is_inside:
                        _add_inside(
                            flat,
                            ((plane * size + line) * width + column_0) * 3,
                            past[2],
                            values,
                            factor,
                        )
                    else:
                        _add_along_x(
                            lines, plane, line, column_0, weights_of_one(past[2]), values, factor
                        )


@compiled
@no_type_check
def _wrapped(at, size):
    """Give a grid point's place in a periodic grid that it is at most one period out of."""
    if at < 0:
        return at + size
    return at - size if at >= size else at


@intrinsic
@no_type_check
def _add_inside(context, flat, at, past, values, factor):  # noqa: ARG001
    """Add factor · w(past) · three numbers to four grid points side by side, the first number of
    which is at `at`.
    """
    kind = flat.dtype
    signature = types.void(flat, types.intp, kind, types.UniTuple(kind, _PARTS), kind)
    table = tuple(tuple(weight for weight in row for _ in range(_PARTS)) for row in WEIGHTS)

    def generate(context, builder, signature, arguments):
        flat, at, past, values, factor = arguments
        lanes = Lanes(context, builder, signature.args[0], 4 * _PARTS)
        three = lanes.spread(*(builder.extract_value(values, number) for number in range(_PARTS)))
        amount = lanes.multiply(lanes.polynomial(table, lanes.spread(past)), three)
        place = lanes.place(flat, at)
        lanes.store(lanes.multiply_add(amount, lanes.spread(factor), lanes.load(place)), place)
        return context.get_dummy_value()

    return signature, generate


@insert_components.on_cpu
@compiled
@no_type_check
def _insert_components(volume, data, precision, factors, rotation, kx, ky, weight, scale):
    """See the operation."""
    size = volume.shape[0]
    n_values = volume.shape[3]
    n_factors = factors.shape[1]
    values = np.empty(n_values, dtype=np.float32)
    mirrored = np.empty(n_values, dtype=np.float32)
    for image in range(len(data)):
        for item in range(len(kx)):
            plane_0, line_0, column_0, weights, is_mate = _taps(
                rotation[image], kx[item], ky[item], scale
            )
            sign = np.float32(-1.0) if is_mate else np.float32(1.0)
            at = 2 * n_factors
            for one in range(n_factors):
                factor = weight[item] * factors[image, one]
                values[2 * one] = factor * data[image, item].real
                values[2 * one + 1] = sign * factor * data[image, item].imag
                mirrored[2 * one], mirrored[2 * one + 1] = values[2 * one], -values[2 * one + 1]
                for other in range(one, n_factors):
                    values[at] = mirrored[at] = (
                        factor * factors[image, other] * precision[image, item]
                    )
                    at += 1
            for tap_z in range(4):
                plane = (plane_0 + tap_z) % size
                for tap_y in range(4):
                    line = (line_0 + tap_y) % size
                    across = weights[0][tap_z] * weights[1][tap_y]
                    for tap_x in range(4):
                        _add_at(
                            volume,
                            plane,
                            line,
                            column_0 + tap_x,
                            across * weights[2][tap_x],
                            values,
                            mirrored,
                        )


@compiled
@no_type_check
def _add_at(volume, plane, line, column, weight, values, mirrored):
    """Add values to one grid point, or to its mate at kx > 0 what they are there; none beyond the
    volume's Nyquist.
    """
    size = volume.shape[0]
    width = volume.shape[2]
    if 0 <= column < width:
        target = volume[plane, line, column]
        for at in range(len(values)):
            target[at] += weight * values[at]
    elif column < 0:
        target = volume[(size - plane) % size, (size - line) % size, -column]
        for at in range(len(values)):
            target[at] += weight * mirrored[at]


@sample_slices.on_cpu
@compiled
@no_type_check
def _sample_slices(slices, volume, rotation, kx, ky, scale):
    """See the operation."""
    size = volume.shape[0]
    n_values = volume.shape[3]
    for image in range(len(slices)):
        for item in range(len(kx)):
            plane_0, line_0, column_0, weights, is_mate = _taps(
                rotation[image], kx[item], ky[item], scale
            )
            result = slices[image, item]
            result[:] = np.float32(0.0)
            for tap_z in range(4):
                plane = (plane_0 + tap_z) % size
                for tap_y in range(4):
                    line = (line_0 + tap_y) % size
                    across = weights[0][tap_z] * weights[1][tap_y]
                    for tap_x in range(4):
                        _read_at(
                            result,
                            volume,
                            plane,
                            line,
                            column_0 + tap_x,
                            across * weights[2][tap_x],
                        )
            if is_mate:
                for at in range(1, n_values, 2):
                    result[at] = -result[at]


@compiled
@no_type_check
def _read_at(result, volume, plane, line, column, weight):
    """Add what is at one grid point, or the conjugate of what is at its mate where kx < 0 or beyond
    Nyquist.
    """
    size = volume.shape[0]
    width = volume.shape[2]
    if 0 <= column < width:
        source = volume[plane, line, column]
        for at in range(len(result)):
            result[at] += weight * source[at]
        return
    source = volume[
        (size - plane) % size, (size - line) % size, -column if column < 0 else size - column
    ]
    for at in range(0, len(result), 2):
        result[at] += weight * source[at]
        result[at + 1] -= weight * source[at + 1]
