"""Compiled inner loops: inserting slices into a Fourier volume, and reading them out of it.

The readable reference in plain PyTorch is `fourier_volume.insert_reference`. All use the cubic
B-spline, four taps along each axis.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import types
from numba.extending import intrinsic

from kinesphere.kernels.compiled import compiled
from kinesphere.kernels.simd import Lanes
from kinesphere.kernels.taps import CUBIC_WEIGHTS

_PARTS = 3


@compiled
@no_type_check
def _spline(fraction):
    """Weights of the taps at −1, 0, 1, 2 from the lower neighbour, for a point that lies `fraction`
    above it.
    """
    rest = np.float32(1.0) - fraction
    square, rest_square = fraction * fraction, rest * rest
    sixth = np.float32(1.0 / 6.0)
    first = rest_square * rest * sixth
    last = square * fraction * sixth
    second = np.float32(2.0 / 3.0) - square + np.float32(0.5) * square * fraction
    third = np.float32(1.0) - first - second - last
    return first, second, third, last


@compiled
@no_type_check
def _add_along_x(flat, plane, line, first, along, values, factor):
    """Add three numbers at four grid points of a line of the volume; those at negative kx go to
    their mates.
    """
    size, width = flat.shape[0], flat.shape[2] // 3
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
    return plane, line, column, (_spline(past[0]), _spline(past[1]), _spline(past[2])), is_mate


@compiled
@no_type_check
def insert_slices(volume, data, precision, rotation, kx, ky, share, scale):
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
    share
        (m,) float32: 1 where a coefficient stands for two, ½ where its mate is given too, or is
        itself.
    scale
        Volume grid points per cycle.
    """
    size, width = volume.shape[0], volume.shape[2]
    lines, flat = volume.reshape(size, size, width * 3), volume.reshape(-1)
    for image in range(len(data)):
        for item in range(len(kx)):
            (plane_0, line_0, column_0), past, is_mate = _locate(
                rotation[image], kx[item], ky[item], scale
            )
            amount = share[item]
            real, imaginary = amount * data[image, item].real, amount * data[image, item].imag
            values = (real, -imaginary if is_mate else imaginary, amount * precision[image, item])
            along_z, along_y = _spline(past[0]), _spline(past[1])
            is_inside = 0 <= column_0 <= width - 4
            for tap_z in range(4):
                plane = _wrapped(plane_0 + tap_z, size)
                for tap_y in range(4):
                    line, factor = _wrapped(line_0 + tap_y, size), along_z[tap_z] * along_y[tap_y]
                    if is_inside:
                        _add_inside(
                            flat,
                            ((plane * size + line) * width + column_0) * 3,
                            past[2],
                            values,
                            factor,
                        )
                    else:
                        _add_along_x(lines, plane, line, column_0, _spline(past[2]), values, factor)


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
    table = tuple(tuple(weight for weight in row for _ in range(_PARTS)) for row in CUBIC_WEIGHTS)

    def generate(context, builder, signature, arguments):
        flat, at, past, values, factor = arguments
        lanes = Lanes(context, builder, signature.args[0], 4 * _PARTS)
        three = lanes.spread(*(builder.extract_value(values, number) for number in range(_PARTS)))
        amount = lanes.multiply(lanes.polynomial(table, lanes.spread(past)), three)
        place = lanes.place(flat, at)
        lanes.store(lanes.multiply_add(amount, lanes.spread(factor), lanes.load(place)), place)
        return context.get_dummy_value()

    return signature, generate


@compiled
@no_type_check
def insert_components(volume, data, precision, factors, rotation, kx, ky, share, scale):
    """Add central slices times each of some factors, and precisions times each pair of factors:
    normal equations.

    Parameters
    ----------
    volume
        (size, size, size // 2 + 1, 2 c + c (c + 1) / 2) float32, added to: real and imaginary parts
        for each factor, then precisions for each pair (0, 0), (0, 1) … (0, c − 1), (1, 1) …; `[kz,
        ky, kx]`.
    data, precision, rotation, kx, ky, share, scale
        As for `insert_slices`.
    factors
        (b, c) float32.
    """
    size, n_values = volume.shape[0], volume.shape[3]
    n_factors = factors.shape[1]
    values, mirrored = np.empty(n_values, dtype=np.float32), np.empty(n_values, dtype=np.float32)
    for image in range(len(data)):
        for item in range(len(kx)):
            plane_0, line_0, column_0, weights, is_mate = _taps(
                rotation[image], kx[item], ky[item], scale
            )
            sign = np.float32(-1.0) if is_mate else np.float32(1.0)
            at = 2 * n_factors
            for one in range(n_factors):
                factor = share[item] * factors[image, one]
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
                    line, across = (line_0 + tap_y) % size, weights[0][tap_z] * weights[1][tap_y]
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
    size, width = volume.shape[0], volume.shape[2]
    if 0 <= column < width:
        target = volume[plane, line, column]
        for at in range(len(values)):
            target[at] += weight * values[at]
    elif column < 0:
        target = volume[(size - plane) % size, (size - line) % size, -column]
        for at in range(len(values)):
            target[at] += weight * mirrored[at]


@compiled
@no_type_check
def sample_slices(slices, volume, rotation, kx, ky, scale):
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
    size, n_values = volume.shape[0], volume.shape[3]
    for image in range(len(slices)):
        for item in range(len(kx)):
            plane_0, line_0, column_0, weights, is_mate = _taps(
                rotation[image], kx[item], ky[item], scale
            )
            found = slices[image, item]
            found[:] = np.float32(0.0)
            for tap_z in range(4):
                plane = (plane_0 + tap_z) % size
                for tap_y in range(4):
                    line, across = (line_0 + tap_y) % size, weights[0][tap_z] * weights[1][tap_y]
                    for tap_x in range(4):
                        _read_at(
                            found, volume, plane, line, column_0 + tap_x, across * weights[2][tap_x]
                        )
            if is_mate:
                for at in range(1, n_values, 2):
                    found[at] = -found[at]


@compiled
@no_type_check
def _read_at(found, volume, plane, line, column, weight):
    """Add what is at one grid point, or the conjugate of what is at its mate where kx < 0 or beyond
    Nyquist.
    """
    size, width = volume.shape[0], volume.shape[2]
    if 0 <= column < width:
        source = volume[plane, line, column]
        for at in range(len(found)):
            found[at] += weight * source[at]
        return
    source = volume[
        (size - plane) % size, (size - line) % size, -column if column < 0 else size - column
    ]
    for at in range(0, len(found), 2):
        found[at] += weight * source[at]
        found[at + 1] -= weight * source[at + 1]
