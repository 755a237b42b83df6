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
def _line(axes, base, node_xy, cells, spacing, z, y, cell):  # noqa: ANN001, ANN202
    """Projected position along a row within one cell of the node lattice: start and step for each axis, in pixels.

    Nodes carry displacements; between them they are interpolated trilinearly, which is linear along a row.
    """
    cell_z, cell_y = z // spacing, y // spacing
    weight_z = np.float32(z - cell_z * spacing) / np.float32(spacing)
    weight_y = np.float32(y - cell_y * spacing) / np.float32(spacing)
    start_x = base[0] + z * axes[2, 0] + y * axes[1, 0]
    start_y = base[1] + z * axes[2, 1] + y * axes[1, 1]
    left_x = left_y = right_x = right_y = np.float32(0.0)
    for step_z in range(2):
        along_z = weight_z if step_z else np.float32(1.0) - weight_z
        for step_y in range(2):
            weight = along_z * (weight_y if step_y else np.float32(1.0) - weight_y)
            left = cells[cell_z + step_z, cell_y + step_y, cell]
            right = cells[cell_z + step_z, cell_y + step_y, cell + 1]
            left_x += weight * node_xy[left, 0]
            left_y += weight * node_xy[left, 1]
            right_x += weight * node_xy[right, 0]
            right_y += weight * node_xy[right, 1]
    slope_x = (right_x - left_x) / np.float32(spacing)
    slope_y = (right_y - left_y) / np.float32(spacing)
    first = np.float32(cell * spacing)
    return (
        start_x + left_x - first * slope_x,
        start_y + left_y - first * slope_y,
        axes[0, 0] + slope_x,
        axes[0, 1] + slope_y,
    )


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
    for image in range(len(grids)):
        grid = grids[image]
        for run in range(len(runs)):
            z, y, x, stop, voxel = runs[run]
            while x < stop:
                cell = x // spacing
                end = min(stop, (cell + 1) * spacing)
                from_x, from_y, step_x, step_y = _line(
                    axes[image], base[image], node_xy[image], cells, spacing, z, y, cell
                )
                for at in range(x, end):
                    place_x, place_y = from_x + np.float32(at) * step_x, from_y + np.float32(at) * step_y
                    low_x, low_y = math.floor(place_x), math.floor(place_y)
                    wx0, wx1, wx2, wx3 = _spline(place_x - np.float32(low_x))
                    wy0, wy1, wy2, wy3 = _spline(place_y - np.float32(low_y))
                    column, row = int(low_x), int(low_y)
                    if 1 <= column < size - 2 and 1 <= row < size - 2:
                        # down the columns first: four neighbours at a time fit a vector register
                        above, upper = grid[row - 1, column - 1 : column + 3], grid[row, column - 1 : column + 3]
                        lower, below = grid[row + 1, column - 1 : column + 3], grid[row + 2, column - 1 : column + 3]
                        first = wy0 * above[0] + wy1 * upper[0] + wy2 * lower[0] + wy3 * below[0]
                        second = wy0 * above[1] + wy1 * upper[1] + wy2 * lower[1] + wy3 * below[1]
                        third = wy0 * above[2] + wy1 * upper[2] + wy2 * lower[2] + wy3 * below[2]
                        fourth = wy0 * above[3] + wy1 * upper[3] + wy2 * lower[3] + wy3 * below[3]
                        value = wx0 * first + wx1 * second + wx2 * third + wx3 * fourth
                    else:
                        value = np.float32(0.0)
                        for tap, weight in ((-1, wy0), (0, wy1), (1, wy2), (2, wy3)):
                            line = grid[(row + tap) % size]
                            value += weight * (
                                wx0 * line[(column - 1) % size]
                                + wx1 * line[column % size]
                                + wx2 * line[(column + 1) % size]
                                + wx3 * line[(column + 2) % size]
                            )
                    total[voxel] += value
                    voxel += 1
                x = end


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
    for image in range(len(grids)):
        grid = grids[image]
        for run in range(len(runs)):
            z, y, x, stop, voxel = runs[run]
            while x < stop:
                cell = x // spacing
                end = min(stop, (cell + 1) * spacing)
                from_x, from_y, step_x, step_y = _line(
                    axes[image], base[image], node_xy[image], cells, spacing, z, y, cell
                )
                for at in range(x, end):
                    place_x, place_y = from_x + np.float32(at) * step_x, from_y + np.float32(at) * step_y
                    low_x, low_y = math.floor(place_x), math.floor(place_y)
                    wx0, wx1, wx2, wx3 = _spline(place_x - np.float32(low_x))
                    wy0, wy1, wy2, wy3 = _spline(place_y - np.float32(low_y))
                    column, row = int(low_x), int(low_y)
                    value = values[voxel]
                    voxel += 1
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
                x = end


@compiled
@no_type_check
def _add_along_x(flat, plane, line, first, factor, spread):  # noqa: ANN001, ANN202
    """Add four grid points of three numbers each to a line of the volume; those at negative kx go to their mates."""
    size, width = flat.shape[0], flat.shape[2] // 3
    if 0 <= first < width - 3:
        row = flat[plane, line, 3 * first : 3 * first + 12]
        for part in range(12):
            row[part] += factor * spread[part]
        return
    row, mirror = flat[plane, line], flat[(size - plane) % size, (size - line) % size]
    for tap in range(4):
        at = first + tap
        if 0 <= at < width:
            row[3 * at] += factor * spread[3 * tap]
            row[3 * at + 1] += factor * spread[3 * tap + 1]
            row[3 * at + 2] += factor * spread[3 * tap + 2]
        elif at < 0:
            mirror[-3 * at] += factor * spread[3 * tap]
            mirror[-3 * at + 1] -= factor * spread[3 * tap + 1]
            mirror[-3 * at + 2] += factor * spread[3 * tap + 2]


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
    spread = np.empty(12, dtype=np.float32)
    for image in range(len(data)):
        turn = rotation[image]
        for item in range(len(kx)):
            amount = share[item]
            real, imaginary = amount * data[image, item].real, amount * data[image, item].imag
            weight = amount * precision[image, item]
            place_x = scale * (turn[0, 0] * kx[item] + turn[0, 1] * ky[item])
            place_y = scale * (turn[1, 0] * kx[item] + turn[1, 1] * ky[item])
            place_z = scale * (turn[2, 0] * kx[item] + turn[2, 1] * ky[item])
            if place_x < 0:
                place_x, place_y, place_z, imaginary = -place_x, -place_y, -place_z, -imaginary
            low_x, low_y, low_z = math.floor(place_x), math.floor(place_y), math.floor(place_z)
            along_x = _spline(np.float32(place_x - low_x))
            along_y = _spline(np.float32(place_y - low_y))
            along_z = _spline(np.float32(place_z - low_z))
            first_x, first_y, first_z = int(low_x) - 1, int(low_y) - 1, int(low_z) - 1
            for tap in range(4):
                spread[3 * tap] = along_x[tap] * real
                spread[3 * tap + 1] = along_x[tap] * imaginary
                spread[3 * tap + 2] = along_x[tap] * weight
            for tap_z in range(4):
                plane = (first_z + tap_z) % size
                for tap_y in range(4):
                    _add_along_x(
                        flat, plane, (first_y + tap_y) % size, first_x, along_z[tap_z] * along_y[tap_y], spread
                    )
