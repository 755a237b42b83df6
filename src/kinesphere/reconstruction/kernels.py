"""Compiled inner loops: sampling and spreading images at moved voxels, and inserting slices into a Fourier volume.

Each has a readable reference in plain PyTorch (`operator.pull_reference`, `operator.push_reference`,
`fourier_volume.insert_reference`) that the tests hold it to. All use the cubic B-spline, four taps along each axis.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from kinesphere.compiled import compiled


@compiled
@no_type_check
def _spline(fraction):  # noqa: ANN001, ANN202
    """Weights of the taps at −1, 0, 1, 2 from the lower neighbour, for a point that lies `fraction` above it."""
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
def _column(node_xy, cells, cell_z, cell_y, column, weight_z, weight_y):  # noqa: ANN001, ANN202
    """Displacement on the lattice line `column`, interpolated between four nodes along z and y."""
    one = np.float32(1.0)
    lower, upper = cells[cell_z, cell_y, column], cells[cell_z, cell_y + 1, column]
    far_lower, far_upper = cells[cell_z + 1, cell_y, column], cells[cell_z + 1, cell_y + 1, column]
    w0, w1 = (one - weight_z) * (one - weight_y), (one - weight_z) * weight_y
    w2, w3 = weight_z * (one - weight_y), weight_z * weight_y
    x = w0 * node_xy[lower, 0] + w1 * node_xy[upper, 0] + w2 * node_xy[far_lower, 0] + w3 * node_xy[far_upper, 0]
    y = w0 * node_xy[lower, 1] + w1 * node_xy[upper, 1] + w2 * node_xy[far_lower, 1] + w3 * node_xy[far_upper, 1]
    return x, y


@compiled
@no_type_check
def _place_row(places, axes, base, node_xy, cells, spacing, run):  # noqa: ANN001, ANN202
    """Find the projected positions of a row of voxels in one image, in pixels, into `places` (2, box).

    Nodes carry displacements; between them they are interpolated trilinearly, which is linear along a row.
    """
    z, y, x, stop = run[0], run[1], run[2], run[3]
    cell_z, cell_y, cell = z // spacing, y // spacing, x // spacing
    share = np.float32(1.0) / np.float32(spacing)
    weight_z, weight_y = np.float32(z - cell_z * spacing) * share, np.float32(y - cell_y * spacing) * share
    at_z, at_y = np.float32(z), np.float32(y)  # a product with an integer would be of double precision
    start_x = base[0] + at_z * axes[2, 0] + at_y * axes[1, 0]
    start_y = base[1] + at_z * axes[2, 1] + at_y * axes[1, 1]
    right_x, right_y = _column(node_xy, cells, cell_z, cell_y, cell, weight_z, weight_y)
    voxel = 0
    while x < stop:
        left_x, left_y = right_x, right_y
        right_x, right_y = _column(node_xy, cells, cell_z, cell_y, cell + 1, weight_z, weight_y)
        step_x, step_y = (right_x - left_x) * share, (right_y - left_y) * share
        for at in range(x, min(stop, (cell + 1) * spacing)):
            along, within = np.float32(at), np.float32(at - cell * spacing)
            places[0, voxel] = start_x + along * axes[0, 0] + left_x + within * step_x
            places[1, voxel] = start_y + along * axes[0, 1] + left_y + within * step_y
            voxel += 1
        cell += 1
        x = cell * spacing


@compiled
@no_type_check
def pull(total, grids, base, axes, node_xy, runs, cells, spacing):  # noqa: ANN001, ANN201
    """Add to each voxel the values of the images at its moved, projected position.

    Parameters
    ----------
    total
        (n_voxels,) float64, added to.
    grids
        (b, N, N) float32, oversampled images.
    base, axes
        (b, 2) position of voxel (0, 0, 0) and (b, 3, 2) steps along x, y, z, in pixels of the grids.
    node_xy
        (b, n_nodes, 2) projected displacements of the nodes, in pixels of the grids.
    runs
        (n_runs, 5): z, y, first x, last x + 1 and number of the first voxel of each row of voxels.
    cells
        (lz, ly, lx) number of the node at each lattice position.
    spacing
        Voxels between nodes.
    """
    size = grids.shape[1]
    places = np.empty((2, size), dtype=np.float32)
    for image in range(len(grids)):
        grid = grids[image]
        for run in range(len(runs)):
            _place_row(places, axes[image], base[image], node_xy[image], cells, spacing, runs[run])
            first = runs[run, 4]
            for at in range(runs[run, 3] - runs[run, 2]):
                place_x, place_y = places[0, at], places[1, at]
                low_x, low_y = math.floor(place_x), math.floor(place_y)
                wx0, wx1, wx2, wx3 = _spline(place_x - np.float32(low_x))
                wy0, wy1, wy2, wy3 = _spline(place_y - np.float32(low_y))
                column, row = int(low_x), int(low_y)
                value = np.float32(0.0)
                if 1 <= column < size - 2 and 1 <= row < size - 2:
                    for tap, weight in ((-1, wy0), (0, wy1), (1, wy2), (2, wy3)):
                        value += weight * (
                            wx0 * grid[row + tap, column - 1]
                            + wx1 * grid[row + tap, column]
                            + wx2 * grid[row + tap, column + 1]
                            + wx3 * grid[row + tap, column + 2]
                        )
                else:
                    for tap, weight in ((-1, wy0), (0, wy1), (1, wy2), (2, wy3)):
                        line = grid[(row + tap) % size]
                        value += weight * (
                            wx0 * line[(column - 1) % size]
                            + wx1 * line[column % size]
                            + wx2 * line[(column + 1) % size]
                            + wx3 * line[(column + 2) % size]
                        )
                total[first + at] += value


@compiled
@no_type_check
def push(grids, values, base, axes, node_xy, runs, cells, spacing):  # noqa: ANN001, ANN201
    """Spread the value of each voxel onto the images at its moved, projected position: the transpose of `pull`.

    Parameters
    ----------
    grids
        (b, N, N) float32, added to.
    values
        (n_voxels,) float32.
    base, axes, node_xy, runs, cells, spacing
        As in `pull`.
    """
    size = grids.shape[1]
    places = np.empty((2, size), dtype=np.float32)
    for image in range(len(grids)):
        grid = grids[image]
        for run in range(len(runs)):
            _place_row(places, axes[image], base[image], node_xy[image], cells, spacing, runs[run])
            first = runs[run, 4]
            for at in range(runs[run, 3] - runs[run, 2]):
                place_x, place_y = places[0, at], places[1, at]
                low_x, low_y = math.floor(place_x), math.floor(place_y)
                wx0, wx1, wx2, wx3 = _spline(place_x - np.float32(low_x))
                wy0, wy1, wy2, wy3 = _spline(place_y - np.float32(low_y))
                column, row = int(low_x), int(low_y)
                value = values[first + at]
                if 1 <= column < size - 2 and 1 <= row < size - 2:
                    for tap, weight in ((-1, wy0), (0, wy1), (1, wy2), (2, wy3)):
                        part = weight * value
                        grid[row + tap, column - 1] += wx0 * part
                        grid[row + tap, column] += wx1 * part
                        grid[row + tap, column + 1] += wx2 * part
                        grid[row + tap, column + 2] += wx3 * part
                else:
                    for tap, weight in ((-1, wy0), (0, wy1), (1, wy2), (2, wy3)):
                        part = weight * value
                        line = grid[(row + tap) % size]
                        line[(column - 1) % size] += wx0 * part
                        line[column % size] += wx1 * part
                        line[(column + 1) % size] += wx2 * part
                        line[(column + 2) % size] += wx3 * part


@compiled
@no_type_check
def _add_along_x(flat, plane, line, first, along, values):  # noqa: ANN001, ANN202
    """Add three numbers at four grid points of a line of the volume; those at negative kx go to their mates."""
    size, width = flat.shape[0], flat.shape[2] // 3
    real, imaginary, weight = values
    if 0 <= first < width - 3:
        for tap in range(4):
            flat[plane, line, 3 * (first + tap)] += along[tap] * real
            flat[plane, line, 3 * (first + tap) + 1] += along[tap] * imaginary
            flat[plane, line, 3 * (first + tap) + 2] += along[tap] * weight
        return
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
def _taps(turn, kx, ky, scale):  # noqa: ANN001, ANN202
    """First grid point and four weights along z, y and x of a coefficient, or of its mate where that has kx ≥ 0."""
    place_x = scale * (turn[0, 0] * kx + turn[0, 1] * ky)
    place_y = scale * (turn[1, 0] * kx + turn[1, 1] * ky)
    place_z = scale * (turn[2, 0] * kx + turn[2, 1] * ky)
    is_mate = place_x < 0
    if is_mate:
        place_x, place_y, place_z = -place_x, -place_y, -place_z
    low_x, low_y, low_z = math.floor(place_x), math.floor(place_y), math.floor(place_z)
    weights = (
        _spline(place_z - np.float32(low_z)),
        _spline(place_y - np.float32(low_y)),
        _spline(place_x - np.float32(low_x)),
    )
    return int(low_z) - 1, int(low_y) - 1, int(low_x) - 1, weights, is_mate


@compiled
@no_type_check
def insert_slices(volume, data, precision, rotation, kx, ky, share, scale):  # noqa: ANN001, ANN201
    """Add central slices to a Fourier volume: transposed interpolation, every coefficient with its Friedel mate.

    Parameters
    ----------
    volume
        (size, size, size // 2 + 1, 3) float32, added to: real part, imaginary part, precision; `[kz, ky, kx]`.
    data
        (b, m) complex64 coefficients.
    precision
        (b, m) float32.
    rotation
        (b, 3, 3) R with x_image = Rᵀ · x_volume.
    kx, ky
        (m,) frequencies of the coefficients, float32 in cycles per image box.
    share
        (m,) float32: 1 where a coefficient stands for two, ½ where its mate is given too, or is itself.
    scale
        Volume grid points per cycle.
    """
    size, width = volume.shape[0], volume.shape[2]
    flat = volume.reshape(size, size, width * 3)
    for image in range(len(data)):
        for item in range(len(kx)):
            plane_0, line_0, column_0, weights, is_mate = _taps(rotation[image], kx[item], ky[item], scale)
            amount = share[item]
            real, imaginary = amount * data[image, item].real, amount * data[image, item].imag
            weight = amount * precision[image, item]
            if is_mate:
                imaginary = -imaginary
            for tap_z in range(4):
                plane = (plane_0 + tap_z) % size
                for tap_y in range(4):
                    line, factor = (line_0 + tap_y) % size, weights[0][tap_z] * weights[1][tap_y]
                    values = (factor * real, factor * imaginary, factor * weight)
                    _add_along_x(flat, plane, line, column_0, weights[2], values)


@compiled
@no_type_check
def insert_components(volume, data, precision, factors, rotation, kx, ky, share, scale):  # noqa: ANN001, ANN201
    """Add central slices times each of some factors, and precisions times each pair of factors: normal equations.

    Parameters
    ----------
    volume
        (size, size, size // 2 + 1, 2 c + c (c + 1) / 2) float32, added to: real and imaginary parts for each factor,
        then precisions for each pair (0, 0), (0, 1) … (0, c − 1), (1, 1) …; `[kz, ky, kx]`.
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
            plane_0, line_0, column_0, weights, is_mate = _taps(rotation[image], kx[item], ky[item], scale)
            sign = np.float32(-1.0) if is_mate else np.float32(1.0)
            at = 2 * n_factors
            for one in range(n_factors):
                factor = share[item] * factors[image, one]
                values[2 * one] = factor * data[image, item].real
                values[2 * one + 1] = sign * factor * data[image, item].imag
                mirrored[2 * one], mirrored[2 * one + 1] = values[2 * one], -values[2 * one + 1]
                for other in range(one, n_factors):
                    values[at] = mirrored[at] = factor * factors[image, other] * precision[image, item]
                    at += 1
            for tap_z in range(4):
                plane = (plane_0 + tap_z) % size
                for tap_y in range(4):
                    line, across = (line_0 + tap_y) % size, weights[0][tap_z] * weights[1][tap_y]
                    for tap_x in range(4):
                        _add_at(volume, plane, line, column_0 + tap_x, across * weights[2][tap_x], values, mirrored)


@compiled
@no_type_check
def _add_at(volume, plane, line, column, weight, values, mirrored):  # noqa: ANN001, ANN202
    """Add values to one grid point, or to its mate at kx > 0 what they are there; none beyond the volume's Nyquist."""
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
def sample_slices(slices, volume, rotation, kx, ky, scale):  # noqa: ANN001, ANN201
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
            plane_0, line_0, column_0, weights, is_mate = _taps(rotation[image], kx[item], ky[item], scale)
            found = slices[image, item]
            found[:] = np.float32(0.0)
            for tap_z in range(4):
                plane = (plane_0 + tap_z) % size
                for tap_y in range(4):
                    line, across = (line_0 + tap_y) % size, weights[0][tap_z] * weights[1][tap_y]
                    for tap_x in range(4):
                        _read_at(found, volume, plane, line, column_0 + tap_x, across * weights[2][tap_x])
            if is_mate:
                for at in range(1, n_values, 2):
                    found[at] = -found[at]


@compiled
@no_type_check
def _read_at(found, volume, plane, line, column, weight):  # noqa: ANN001, ANN202
    """Add what is at one grid point, or the conjugate of what is at its mate where kx < 0 or beyond Nyquist."""
    size, width = volume.shape[0], volume.shape[2]
    if 0 <= column < width:
        source = volume[plane, line, column]
        for at in range(len(found)):
            found[at] += weight * source[at]
        return
    source = volume[(size - plane) % size, (size - line) % size, -column if column < 0 else size - column]
    for at in range(0, len(found), 2):
        found[at] += weight * source[at]
        found[at + 1] -= weight * source[at + 1]
