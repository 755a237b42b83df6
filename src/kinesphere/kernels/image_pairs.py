"""Compiled loops that compare images with projections of structures, pair by pair: what
`comparison` is made of.

Structures are (k, 3, p), coordinate first, so that projecting them is a loop over points that lie
side by side; frames are the images' axes R[:, :2], (b, 3, 2). Row `image[q]` and structure
`state[q]` make pair q.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from kinesphere.kernels.bspline import N_TAPS
from kinesphere.kernels.compiled import compiled
from kinesphere.kernels.spreading import CHUNK, fold, locate, unfold
from kinesphere.kernels.taps import add_taps, read_taps


@compiled
@no_type_check
def _project(structure, frame, first, lift_x, lift_y, x, y):
    """Give the places of a chunk of points in an image, counted from so many pixels before its
    centre.
    """
    x0, x1, x2 = frame[0, 0], frame[1, 0], frame[2, 0]
    y0, y1, y2 = frame[0, 1], frame[1, 1], frame[2, 1]
    for j in range(x.shape[0]):
        p0, p1, p2 = structure[0, first + j], structure[1, first + j], structure[2, first + j]
        x[j] = x0 * p0 + x1 * p1 + x2 * p2 + lift_x
        y[j] = y0 * p0 + y1 * p1 + y2 * p2 + lift_y


@compiled
@no_type_check
def _locate(structure, frame, first, shape, x, y, at):
    """Project a chunk of points, and find their taps on a grid of that shape: in a margin's reach
    if it is square.
    """
    one = x.dtype.type(1)
    n_rows, size = shape
    if n_rows == size:
        _project(structure, frame, first, size // 2 * one, n_rows // 2 * one, x, y)
        locate(x, y, at, n_rows, size + 3)
        return
    _project(structure, frame, first, (size // 2 - 1) * one, (n_rows // 2 - 1) * one, x, y)
    last_x, last_y = one * (size - N_TAPS), one * (n_rows - N_TAPS)
    for j in range(x.shape[0]):
        fx, fy = np.floor(x[j]), np.floor(y[j])
        # what is no number compares as false
        fx = max(0 * one, fx)
        fy = max(0 * one, fy)
        fx = min(last_x, fx)
        fy = min(last_y, fy)
        x[j] -= fx
        y[j] -= fy
        at[j] = np.int32(fy) * np.int32(size) + np.int32(fx)


@compiled
@no_type_check
def spread_pairs(states, frame, image, state, amplitude, grid):
    """Project and spread onto grids (q, rows, size), the image's centre at [rows / 2, size / 2].

    Square grids are periodic. Of others the caller knows that no point with its taps reaches an
    edge.
    """
    kind = states.dtype
    n_points, n_rows, size = states.shape[2], grid.shape[1], grid.shape[2]
    square = n_rows == size
    width = size + 3 if square else size
    margin = np.empty((n_rows + 3) * width if square else 0, kind)
    x = np.empty(CHUNK, kind)
    y = np.empty(CHUNK, kind)
    at = np.empty(CHUNK, np.int32)
    for q in range(grid.shape[0]):
        page = margin if square else grid[q].reshape(n_rows * size)
        page[:] = 0
        for first in range(0, n_points, CHUNK):
            n = min(CHUNK, n_points - first)
            _locate(states[state[q]], frame[image[q]], first, grid.shape[1:], x[:n], y[:n], at)
            for j in range(n):
                add_taps(page, at[j], width, x[j], y[j], amplitude[first + j])
        if square:
            fold(margin, grid[q])


@compiled
@no_type_check
def gather_pairs(states, frame, image, state, amplitude, gradient, grad_points):
    """Give the gradient (q, 3, p) in x, y and amplitude of each point from that in the grids (q,
    rows, size).
    """
    kind = states.dtype
    n_points, n_rows, size = states.shape[2], gradient.shape[1], gradient.shape[2]
    square = n_rows == size
    width = size + 3 if square else size
    margin = np.empty((n_rows + 3) * width if square else 0, kind)
    x = np.empty(CHUNK, kind)
    y = np.empty(CHUNK, kind)
    at = np.empty(CHUNK, np.int32)
    for q in range(gradient.shape[0]):
        page = margin if square else gradient[q].reshape(n_rows * size)
        if square:
            unfold(gradient[q], margin)
        for first in range(0, n_points, CHUNK):
            n = min(CHUNK, n_points - first)
            _locate(states[state[q]], frame[image[q]], first, gradient.shape[1:], x[:n], y[:n], at)
            for j in range(n):
                value, along_x, along_y = read_taps(page, at[j], width, x[j], y[j])
                grad_points[q, 0, first + j] = along_x * amplitude[first + j]
                grad_points[q, 1, first + j] = along_y * amplitude[first + j]
                grad_points[q, 2, first + j] = value


@compiled
@no_type_check
def lift_gradient(grad_points, frame, image, state, first, last, grad_states, grad_amplitude):
    """Add what `gather_pairs` found for points first … last − 1 to the gradients of structures and
    amplitudes.
    """
    for q in range(grad_points.shape[0]):
        f = frame[image[q]]
        total = grad_states[state[q]]
        for axis in range(3):
            along_x, along_y = f[axis, 0], f[axis, 1]
            for j in range(first, last):
                total[axis, j] += along_x * grad_points[q, 0, j] + along_y * grad_points[q, 1, j]
        for j in range(first, last):
            grad_amplitude[j] += grad_points[q, 2, j]


@compiled
@no_type_check
def rows_to_columns(rows, columns):
    """Give the first columns (q, c, size) of half-transformed rows (q, rows, half), y = 0 first.

    The rows between are left as they are. The image's centre is taken to x = 0: exp(2πi c / 2) =
    ±1.
    """
    half = rows.shape[1] // 2
    size = columns.shape[2]
    for q in range(rows.shape[0]):
        for c in range(columns.shape[1]):
            if c % 2:
                for y in range(half):
                    columns[q, c, y] = -rows[q, half + y, c]
                for y in range(half):
                    columns[q, c, size - half + y] = -rows[q, y, c]
            else:
                for y in range(half):
                    columns[q, c, y] = rows[q, half + y, c]
                for y in range(half):
                    columns[q, c, size - half + y] = rows[q, y, c]


@compiled
@no_type_check
def columns_to_rows(columns, rows):
    """Undo `rows_to_columns`; columns that were not kept are empty."""
    half = rows.shape[1] // 2
    size = columns.shape[2]
    n_columns = columns.shape[1]
    for q in range(rows.shape[0]):
        for row in range(rows.shape[1]):
            y = row - half if row >= half else size - half + row
            for c in range(n_columns):
                rows[q, row, c] = -columns[q, c, y] if c % 2 else columns[q, c, y]
            for c in range(n_columns, rows.shape[2]):
                rows[q, row, c] = 0


@compiled
@no_type_check
def make_templates(gain, data, factor, order, template, squared_gain):
    """Give what `compare_runs` compares with, real and imaginary parts: gain · data and gain² in
    another order.
    """
    for b in range(gain.shape[0]):
        for m in range(order.shape[0]):
            total = factor[order[m]] * gain[b, order[m]]
            value = data[b, order[m]]
            template[b, 2 * m], template[b, 2 * m + 1] = total * value.real, total * value.imag
            squared_gain[b, 2 * m] = total * total
            squared_gain[b, 2 * m + 1] = total * total


@compiled
@no_type_check
def compare_runs(transform, runs, image, template, squared_gain, cross, power):
    """Sum template · transform and gain² · transform² over stretches of transforms (q, n), real and
    imaginary parts.

    A transform is given as real numbers, two a coefficient; so are template and squared gain (b,
    m), of the coefficients in the stretches only. Nothing is looked up, so that the loop is vector
    instructions.
    """
    for q in range(transform.shape[0]):
        values = transform[q]
        row = template[image[q]]
        weight = squared_gain[image[q]]
        product, squares = transform.dtype.type(0), transform.dtype.type(0)
        done = 0
        for run in range(runs.shape[0]):
            first = 2 * runs[run, 0]
            n = 2 * runs[run, 1]
            stretch = values[first : first + n]
            t = row[done : done + n]
            g = weight[done : done + n]
            for i in range(n):
                product += t[i] * stretch[i]
                squares += g[i] * (stretch[i] * stretch[i])
            done += n
        cross[q], power[q] = product, squares


@compiled
@no_type_check
def compare_chosen(transform, index, factor, image, gain, data, rendered, cross, power):
    """Pick coefficients (q, m) of transforms (q, n), and sum Re(data* gain rendered) and |gain
    rendered|².
    """
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
def gradient_of_chosen(
    rendered, index, factor, image, gain, data, grad_cross, grad_power, transform
):
    """Give the gradient with respect to transforms (q, n) from those with respect to the sums of
    `compare_chosen`.
    """
    for q in range(transform.shape[0]):
        i = image[q]
        transform[q, :] = 0
        of_cross, of_power = grad_cross[q], 2 * grad_power[q]
        for m in range(index.shape[0]):
            g = gain[i, m]
            first, second = factor[m] * g * of_cross, factor[m] * g * g * of_power
            real = first * data[i, m].real + second * rendered[q, m].real
            transform[q, index[m]] = complex(
                real, first * data[i, m].imag + second * rendered[q, m].imag
            )
