"""Compiled loops that compare images with projections of structures, pair by pair: what `comparison` is made of.

Structures are (k, 3, p), coordinate first, so that projecting them is a loop over points that lie side by side; frames
are the images' axes R[:, :2], (b, 3, 2). Row `image[q]` and structure `state[q]` make pair q.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from kinesphere.compiled import compiled
from kinesphere.imaging.spreading import CHUNK, fold, locate, unfold
from kinesphere.imaging.taps import add_taps, read_taps


@compiled
@no_type_check
def _project(structure, frame, first, lift, x, y):  # noqa: ANN001, ANN202
    """Give the places of a chunk of points in an image; y is counted from `lift` rows above the image's centre."""
    x0, x1, x2 = frame[0, 0], frame[1, 0], frame[2, 0]
    y0, y1, y2 = frame[0, 1], frame[1, 1], frame[2, 1]
    for j in range(x.shape[0]):
        p0, p1, p2 = structure[0, first + j], structure[1, first + j], structure[2, first + j]
        x[j] = x0 * p0 + x1 * p1 + x2 * p2
        y[j] = y0 * p0 + y1 * p1 + y2 * p2 + lift


@compiled
@no_type_check
def spread_pairs(states, frame, image, state, amplitude, grid):  # noqa: ANN001, ANN201
    """Project and spread onto grids (q, rows, size); y = −rows / 2 comes first, x = 0 comes first."""
    kind = states.dtype
    n_points, n_rows, width = states.shape[2], grid.shape[1], grid.shape[2] + 3
    lift = kind.type(n_rows // 2)
    margin = np.empty((n_rows + 3) * width, kind)
    x, y, at = np.empty(CHUNK, kind), np.empty(CHUNK, kind), np.empty(CHUNK, np.int32)
    for q in range(grid.shape[0]):
        margin[:] = 0
        for first in range(0, n_points, CHUNK):
            n = min(CHUNK, n_points - first)
            _project(states[state[q]], frame[image[q]], first, lift, x[:n], y[:n])
            locate(x[:n], y[:n], at, n_rows, width)
            for j in range(n):
                add_taps(margin, at[j], width, x[j], y[j], amplitude[first + j])
        fold(margin, grid[q])


@compiled
@no_type_check
def gather_pairs(states, frame, image, state, amplitude, gradient, found):  # noqa: ANN001, ANN201
    """Give the gradient (q, 3, p) in x, y and amplitude of each point from that in the grids (q, rows, size)."""
    kind = states.dtype
    n_points, n_rows, width = states.shape[2], gradient.shape[1], gradient.shape[2] + 3
    lift = kind.type(n_rows // 2)
    margin = np.empty((n_rows + 3) * width, kind)
    x, y, at = np.empty(CHUNK, kind), np.empty(CHUNK, kind), np.empty(CHUNK, np.int32)
    for q in range(gradient.shape[0]):
        unfold(gradient[q], margin)
        for first in range(0, n_points, CHUNK):
            n = min(CHUNK, n_points - first)
            _project(states[state[q]], frame[image[q]], first, lift, x[:n], y[:n])
            locate(x[:n], y[:n], at, n_rows, width)
            for j in range(n):
                value, along_x, along_y = read_taps(margin, at[j], width, x[j], y[j])
                found[q, 0, first + j] = along_x * amplitude[first + j]
                found[q, 1, first + j] = along_y * amplitude[first + j]
                found[q, 2, first + j] = value


@compiled
@no_type_check
def lift_gradient(found, frame, image, state, first, last, by_state, by_amplitude):  # noqa: ANN001, ANN201
    """Add what `gather_pairs` found for points first … last − 1 to the gradients of structures and amplitudes."""
    for q in range(found.shape[0]):
        f, total = frame[image[q]], by_state[state[q]]
        for axis in range(3):
            along_x, along_y = f[axis, 0], f[axis, 1]
            for j in range(first, last):
                total[axis, j] += along_x * found[q, 0, j] + along_y * found[q, 1, j]
        for j in range(first, last):
            by_amplitude[j] += found[q, 2, j]


@compiled
@no_type_check
def rows_to_columns(rows, columns):  # noqa: ANN001, ANN201
    """Give the first columns (q, c, size) of half-transformed rows (q, rows, half), y = 0 first and the rest empty."""
    half, size = rows.shape[1] // 2, columns.shape[2]
    for q in range(rows.shape[0]):
        for c in range(columns.shape[1]):
            for y in range(half):
                columns[q, c, y] = rows[q, half + y, c]
            for y in range(half, size - half):
                columns[q, c, y] = 0
            for y in range(half):
                columns[q, c, size - half + y] = rows[q, y, c]


@compiled
@no_type_check
def columns_to_rows(columns, rows):  # noqa: ANN001, ANN201
    """Undo `rows_to_columns`; columns that were not kept are empty."""
    half, size, n_columns = rows.shape[1] // 2, columns.shape[2], columns.shape[1]
    for q in range(rows.shape[0]):
        for row in range(rows.shape[1]):
            y = row - half if row >= half else size - half + row
            for c in range(n_columns):
                rows[q, row, c] = columns[q, c, y]
            for c in range(n_columns, rows.shape[2]):
                rows[q, row, c] = 0


@compiled
@no_type_check
def compare_runs(transform, runs, image, template, squared_gain, cross, power):  # noqa: ANN001, ANN201
    """Sum template · transform and gain² · transform² over stretches of transforms (q, n), real and imaginary parts.

    A transform is given as real numbers, two a coefficient; so are template and squared gain (b, m), of the
    coefficients in the stretches only.
    """
    for q in range(transform.shape[0]):
        values, wanted, weight = transform[q], template[image[q]], squared_gain[image[q]]
        product, squares = transform.dtype.type(0), transform.dtype.type(0)
        done = 0
        for run in range(runs.shape[0]):
            first, n = 2 * runs[run, 0], 2 * runs[run, 1]
            stretch, t, g = values[first : first + n], wanted[done : done + n], weight[done : done + n]
            for i in range(n):
                product += t[i] * stretch[i]
                squares += g[i] * (stretch[i] * stretch[i])
            done += n
        cross[q], power[q] = product, squares


@compiled
@no_type_check
def compare_chosen(transform, index, factor, image, gain, data, rendered, cross, power):  # noqa: ANN001, ANN201
    """Pick coefficients (q, m) of transforms (q, n), and sum Re(data* gain rendered) and |gain rendered|²."""
    for q in range(transform.shape[0]):
        i = image[q]
        product, squares = gain.dtype.type(0), gain.dtype.type(0)
        for m in range(index.shape[0]):
            value = factor[m] * transform[q, index[m]]
            rendered[q, m] = value
            g = gain[i, m]
            product += g * (value.real * data[i, m].real + value.imag * data[i, m].imag)
            squares += g * g * (value.real * value.real + value.imag * value.imag)
        cross[q], power[q] = product, squares


@compiled
@no_type_check
def gradient_of_chosen(rendered, index, factor, image, gain, data, by_cross, by_power, transform):  # noqa: ANN001, ANN201
    """Give the gradient with respect to transforms (q, n) from those with respect to the sums of `compare_chosen`."""
    for q in range(transform.shape[0]):
        i = image[q]
        transform[q, :] = 0
        of_cross, of_power = by_cross[q], 2 * by_power[q]
        for m in range(index.shape[0]):
            g = gain[i, m]
            transform[q, index[m]] = (factor[m] * g) * (of_cross * data[i, m] + (of_power * g) * rendered[q, m])
