"""Compiled inner loops: sampling images at moved, projected voxels, and spreading voxels onto
images.

The readable references in plain PyTorch are `operator.pull_reference` and
`operator.push_reference`. Places come first, for some hundred voxels at once, by vector
instructions: between nodes they are interpolated along x, once for each line of the lattice, and
each row of voxels mixes the four lines around it. Then every voxel reads or changes the sixteen
values of the image around its place (`imaging.taps`).
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import types
from numba.extending import intrinsic

from kinesphere.kernels.compiled import compiled
from kinesphere.kernels.simd import Lanes
from kinesphere.kernels.spreading import fold, locate, unfold
from kinesphere.kernels.taps import add_taps, read_taps

_CHUNK = 512
_LANES = 8


@compiled
@no_type_check
def pull(total, grids, base, axes, node_xy, runs, cells, spacing):
    """Add to each voxel the values of the images at its moved, projected position.

    Parameters
    ----------
    total
        (n_voxels,) float64, added to.
    grids
        (b, N, N) float32, oversampled images.
    base, axes
        (b, 2) position of voxel (0, 0, 0) and (b, 3, 2) steps along x, y, z, in pixels of the
        grids.
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
    margin = np.empty((size + 3) * (size + 3), np.float32)
    x, y, at, lines = _room(size, cells, spacing)
    for image in range(grids.shape[0]):
        unfold(grids[image], margin)
        run, laid = 0, -1
        while run < runs.shape[0]:
            first = runs[run, 4]
            n, run, laid = _place(
                x, y, lines, laid, base, axes, node_xy, image, runs, run, cells, spacing
            )
            locate(x[:n], y[:n], at, size, size + 3)
            for j in range(n):
                x[j], _, _ = read_taps(margin, at[j], size + 3, x[j], y[j])
            for j in range(n):
                total[first + j] += x[j]


@compiled
@no_type_check
def push(grids, values, base, axes, node_xy, runs, cells, spacing):
    """Spread the value of each voxel onto the images at its moved, projected position: the
    transpose of `pull`.

    Parameters
    ----------
    grids
        (b, N, N) float32, set.
    values
        (n_voxels,) float32.
    base, axes, node_xy, runs, cells, spacing
        As in `pull`.
    """
    size = grids.shape[1]
    margin = np.empty((size + 3) * (size + 3), np.float32)
    x, y, at, lines = _room(size, cells, spacing)
    for image in range(grids.shape[0]):
        margin[:] = 0
        run, laid = 0, -1
        while run < runs.shape[0]:
            first = runs[run, 4]
            n, run, laid = _place(
                x, y, lines, laid, base, axes, node_xy, image, runs, run, cells, spacing
            )
            locate(x[:n], y[:n], at, size, size + 3)
            for j in range(n):
                add_taps(margin, at[j], size + 3, x[j], y[j], values[first + j])
        fold(margin, grids[image])


@compiled
@no_type_check
def _room(size, cells, spacing):
    """Make room for the places of a chunk of voxels and for the lines of two layers of the lattice.

    What is mixed comes in vectors, which reach beyond the end of a row.
    """
    n = max(_CHUNK, size) + _LANES
    lines = np.zeros(4 * cells.shape[1] * cells.shape[2] * spacing + _LANES, np.float32)
    return np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.int32), lines


@compiled
@no_type_check
def _place(x, y, lines, laid, base, axes, node_xy, image, runs, run, cells, spacing):
    """Find the places of the voxels in as many rows, from one on, as there is room for.

    Gives the number of voxels, the first row that is left, and the last layer of nodes that `lines`
    hold: layers take turns in it, and rows come in the order of their z.
    """
    n = 0
    while run < runs.shape[0] and n + runs[run, 3] - runs[run, 2] + _LANES <= x.shape[0]:
        layer = runs[run, 0] // spacing
        for missing in range(max(layer, laid + 1), layer + 2):
            _lay_lines(lines, missing, base, axes, node_xy, image, cells, spacing)
            laid = missing
        _mix_lines(x, y, n, lines, runs, run, cells, spacing)
        n += runs[run, 3] - runs[run, 2]
        run += 1
    return n, run, laid


@compiled
@no_type_check
def _lay_lines(lines, layer, base, axes, node_xy, image, cells, spacing):
    """Interpolate places between the nodes of a layer along x: (2 layers, x and y, lattice lines,
    voxels), flat.
    """
    n_lines, length = cells.shape[1], cells.shape[2] * spacing
    along_x, along_y = axes[image, 0, 0], axes[image, 0, 1]
    share = np.float32(1.0) / np.float32(spacing)
    at_z = np.float32(layer * spacing)  # a product with an integer would be of double precision
    for line in range(n_lines):
        at_y = np.float32(line * spacing)
        start_x = base[image, 0] + at_z * axes[image, 2, 0] + at_y * axes[image, 1, 0]
        start_y = base[image, 1] + at_z * axes[image, 2, 1] + at_y * axes[image, 1, 1]
        to_x = (layer % 2 * 2 * n_lines + line) * length
        to_y = to_x + n_lines * length
        for cell in range(cells.shape[2] - 1):
            left, right = cells[layer, line, cell], cells[layer, line, cell + 1]
            if left < 0 or right < 0:
                continue
            left_x, left_y = node_xy[image, left, 0], node_xy[image, left, 1]
            step_x = along_x + share * (node_xy[image, right, 0] - left_x)
            step_y = along_y + share * (node_xy[image, right, 1] - left_y)
            left_x += start_x + np.float32(cell * spacing) * along_x
            left_y += start_y + np.float32(cell * spacing) * along_y
            for within in range(spacing):
                lines[to_x + cell * spacing + within] = left_x + np.float32(within) * step_x
                lines[to_y + cell * spacing + within] = left_y + np.float32(within) * step_y


@compiled
@no_type_check
def _mix_lines(x, y, n, lines, runs, run, cells, spacing):
    """Give the places of a row of voxels, from position `n` on, by those on the four lattice lines
    around it.
    """
    one, share = np.float32(1.0), np.float32(1.0) / np.float32(spacing)
    n_lines, length = cells.shape[1], cells.shape[2] * spacing
    layer, line = runs[run, 0] // spacing, runs[run, 1] // spacing
    z = np.float32(runs[run, 0] - layer * spacing) * share
    y_ = np.float32(runs[run, 1] - line * spacing) * share
    weights = ((one - z) * (one - y_), (one - z) * y_, z * (one - y_), z * y_)
    near = (layer % 2 * 2 * n_lines + line) * length + runs[run, 2]
    far = ((1 - layer % 2) * 2 * n_lines + line) * length + runs[run, 2]
    other = n_lines * length
    for j in range(0, runs[run, 3] - runs[run, 2], _LANES):
        a, b = near + j, far + j
        _mix(x, n + j, lines, (a, a + length, b, b + length), weights)
        a, b = a + other, b + other
        _mix(y, n + j, lines, (a, a + length, b, b + length), weights)


@intrinsic
@no_type_check
def _mix(context, found, first, values, places, weights):  # noqa: ARG001
    """Set some numbers of an array from `first` on: weighted sums of those in another from each
    place on.
    """
    kind = values.dtype
    signature = types.void(
        found, types.intp, values, types.UniTuple(types.intp, 4), types.UniTuple(kind, 4)
    )

    def generate(context, builder, signature, arguments):
        found, first, values, places, weights = arguments
        lanes = Lanes(context, builder, signature.args[0], _LANES)
        total = lanes.zero
        for number in range(4):
            part = lanes.load(lanes.place(values, builder.extract_value(places, number)))
            total = lanes.multiply_add(
                lanes.spread(builder.extract_value(weights, number)), part, total
            )
        lanes.store(total, lanes.place(found, first))
        return context.get_dummy_value()

    return signature, generate
