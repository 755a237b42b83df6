"""Sampling images at moved, projected voxels, and spreading voxels onto images: eq. 6 of DynaMight
without its transforms.

Compiled, places come first, for some hundred voxels at once, by vector instructions: between nodes
they are interpolated along x, once for each line of the lattice, and each row of voxels mixes the
four lines around it. Then every voxel reads or changes the sixteen values of the image around its
place (`taps`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.kernels import bspline
from kinesphere.kernels.bspline import N_TAPS
from kinesphere.kernels.compiled import array_of, compiled, over_rows
from kinesphere.kernels.dispatch import operation
from kinesphere.kernels.simd import Lanes
from kinesphere.kernels.spreading import fold, locate, unfold
from kinesphere.kernels.taps import add_taps, read_taps

_CHUNK = 512
_LANES = 8
_TRITON = "kinesphere.kernels.voxels_triton"


@dataclass(frozen=True, eq=False)
class Views:
    """How some images look at the voxels: oversampled-pixel positions are linear in the voxel
    index, plus motion.

    Parameters
    ----------
    base, axes
        (b, 2) projected position of voxel (0, 0, 0), and (b, 3, 2) steps along x, y, z, in
        oversampled pixels.
    node_xy
        (b, n_nodes, 2) projected displacement of the nodes, in oversampled pixels.
    """

    base: Float[Tensor, "b 2"]
    axes: Float[Tensor, "b 3 2"]
    node_xy: Float[Tensor, "b nodes 2"]

    def __len__(self) -> int:
        return int(self.base.shape[0])

    def to(self, device: torch.device | str) -> Views:
        """Return a copy on another device."""
        return Views(self.base.to(device), self.axes.to(device), self.node_xy.to(device))


@dataclass(frozen=True, eq=False)
class VoxelLattice:
    """Voxels, and the lattice of nodes that their motion is interpolated between.

    Parameters
    ----------
    runs
        (n_runs, 5) int64: z, y, first x, last x + 1, and number of the first voxel of each row of
        voxels.
    cells
        (lz, ly, lx) int64: number of the node at each lattice position, −1 where no voxel needs
        one.
    spacing
        Voxels between nodes.
    device
        Where the tensors below are.
    """

    runs: Int[np.ndarray, "runs 5"]
    cells: Int[np.ndarray, "lz ly lx"]
    spacing: int
    device: torch.device | str = "cpu"

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return int((self.runs[:, 3] - self.runs[:, 2]).sum())

    @cached_property
    def voxels(self) -> Int[Tensor, "voxels 3"]:
        """(n_voxels, 3) indices x, y, z of the voxels, in their order."""
        length = self.runs[:, 3] - self.runs[:, 2]
        z, y, first = np.repeat(self.runs[:, :3], length, axis=0).T
        x = first + np.arange(self.n_voxels) - np.repeat(self.runs[:, 4], length)
        return torch.from_numpy(np.stack([x, y, z], axis=1)).to(self.device)

    @cached_property
    def node_numbers(self) -> Int[Tensor, "lz ly lx"]:
        """`cells` on the device."""
        return torch.from_numpy(self.cells).to(self.device)

    @cached_property
    def corners(self) -> tuple[Int[Tensor, "voxels 8"], Float[Tensor, "voxels 8"]]:
        """Nodes at the corners of each voxel's cell, and their trilinear weights."""
        cell = torch.div(self.voxels, self.spacing, rounding_mode="floor")
        fraction = (self.voxels - cell * self.spacing) / self.spacing
        numbers = []
        weights = []
        for corner in np.ndindex(2, 2, 2):  # x, y, z
            at = cell + torch.tensor(corner, device=self.device)
            numbers.append(self.node_numbers[at[:, 2], at[:, 1], at[:, 0]])
            far = torch.tensor(corner, device=self.device) == 1
            weights.append(torch.where(far, fraction, 1.0 - fraction).prod(1))
        return torch.stack(numbers, 1), torch.stack(weights, 1)

    def to(self, device: torch.device | str) -> VoxelLattice:
        """Return the same on another device."""
        return replace(self, device=device)


@operation(triton=_TRITON, dtypes=(torch.float32,))
def pull(
    grids: Float[Tensor, "b N N"], views: Views, lattice: VoxelLattice
) -> Float[Tensor, " voxels"]:
    """Sample each image at the moved, projected voxels and add up, in double precision over images.

    Parameters
    ----------
    grids
        (b, N, N) oversampled images, single precision.
    views
        How they look at the voxels.
    lattice
        The voxels.
    """
    total = torch.zeros(lattice.n_voxels, dtype=torch.float64, device=grids.device)
    for image, (index, weight) in enumerate(_footprints(views, lattice, grids.shape[-1])):
        total += (grids[image].flatten()[index] * weight).sum((1, 2))
    return total


@operation(triton=_TRITON, dtypes=(torch.float32,))
def push(
    values: Float[Tensor, " voxels"], views: Views, size: int, lattice: VoxelLattice
) -> Float[Tensor, "b N N"]:
    """Spread the voxels onto each image: the transpose of `pull`.

    Parameters
    ----------
    values
        (n_voxels,) density, single precision.
    size
        N, the size of the oversampled images.
    views, lattice
        As in `pull`.
    """
    grids = torch.zeros(len(views), size * size, device=values.device)
    for image, (index, weight) in enumerate(_footprints(views, lattice, size)):
        grids[image].index_add_(0, index.flatten(), (values[:, None, None] * weight).flatten())
    return grids.reshape(-1, size, size)


def _footprints(
    views: Views, lattice: VoxelLattice, size: int
) -> Iterator[tuple[Int[Tensor, "voxels 4 4"], Float[Tensor, "voxels 4 4"]]]:
    """Give flat indices of the grid points under each voxel's spline, and weights, image by
    image.
    """
    number, fraction = lattice.corners
    taps = torch.arange(N_TAPS, device=number.device) - 1
    for image in range(len(views)):
        motion = (views.node_xy[image][number] * fraction[..., None]).sum(1)
        place = views.base[image] + lattice.voxels.float() @ views.axes[image] + motion
        low = torch.floor(place)  # (n_voxels, 2) xy
        weight = bspline.weights(place - low)
        tap = torch.remainder(low.long()[..., None] + taps, size)
        index = tap[:, 1, :, None] * size + tap[:, 0, None, :]
        yield index, weight[:, 1, :, None] * weight[:, 0, None, :]


@pull.on_cpu
def _pull_compiled(grids: Tensor, views: Views, lattice: VoxelLattice) -> Tensor:
    total = np.zeros(lattice.n_voxels)
    arrays = [array_of(values) for values in (grids, views.base, views.axes, views.node_xy)]

    def pull_rows(part: slice) -> None:
        _pull(total, *arrays, lattice.runs[part], lattice.cells, lattice.spacing)

    n_runs = len(lattice.runs)
    over_rows(pull_rows, n_runs, len(views) * lattice.n_voxels // max(n_runs, 1))
    return torch.from_numpy(total)


@push.on_cpu
def _push_compiled(values: Tensor, views: Views, size: int, lattice: VoxelLattice) -> Tensor:
    grids = np.empty((len(views), size, size), dtype=np.float32)
    density = array_of(values)
    arrays = [array_of(values) for values in (views.base, views.axes, views.node_xy)]

    def push_images(part: slice) -> None:
        of_images = (array[part] for array in arrays)
        _push(grids[part], density, *of_images, lattice.runs, lattice.cells, lattice.spacing)

    over_rows(push_images, len(views), lattice.n_voxels)
    return torch.from_numpy(grids)


_EXAMPLE_SIZE = 20


def _example_views() -> tuple[Views, VoxelLattice]:
    """Two images of four rows of voxels; some leave the image, and wrap around."""
    generator = torch.Generator().manual_seed(0)
    rows = [(2, 1, 3, 7, 0), (2, 2, 3, 6, 4), (3, 1, 2, 7, 7), (4, 4, 4, 7, 12)]
    cells: NDArray[np.int64] = np.arange(5 * 5 * 5).reshape(5, 5, 5)
    shapes = ((2, 2), (2, 3, 2), (2, cells.size, 2))
    views = Views(*(2.0 * torch.randn(shape, generator=generator) for shape in shapes))
    return views, VoxelLattice(np.array(rows, dtype=np.int64), cells, 2)


@pull.example
def _pull_example(dtype: torch.dtype) -> tuple[Any, ...]:
    shape = (2, _EXAMPLE_SIZE, _EXAMPLE_SIZE)
    grids = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return grids, *_example_views()


@push.example
def _push_example(dtype: torch.dtype) -> tuple[Any, ...]:
    views, lattice = _example_views()
    return torch.linspace(-1.0, 1.0, lattice.n_voxels, dtype=dtype), views, _EXAMPLE_SIZE, lattice


@compiled
@no_type_check
def _pull(total, grids, base, axes, node_xy, runs, cells, spacing):
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
        run = 0
        laid = -1
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
def _push(grids, values, base, axes, node_xy, runs, cells, spacing):
    """Spread the value of each voxel onto the images at its moved, projected position: the
    transpose of `_pull`.

    Parameters
    ----------
    grids
        (b, N, N) float32, set.
    values
        (n_voxels,) float32.
    base, axes, node_xy, runs, cells, spacing
        As in `_pull`.
    """
    size = grids.shape[1]
    margin = np.empty((size + 3) * (size + 3), np.float32)
    x, y, at, lines = _room(size, cells, spacing)
    for image in range(grids.shape[0]):
        margin[:] = 0
        run = 0
        laid = -1
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
    n_lines = cells.shape[1]
    length = cells.shape[2] * spacing
    along_x, along_y = axes[image, 0, 0], axes[image, 0, 1]
    per_voxel = np.float32(1.0) / np.float32(spacing)
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
            step_x = along_x + per_voxel * (node_xy[image, right, 0] - left_x)
            step_y = along_y + per_voxel * (node_xy[image, right, 1] - left_y)
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
    one = np.float32(1.0)
    step = one / np.float32(spacing)
    n_lines = cells.shape[1]
    length = cells.shape[2] * spacing
    layer, line = runs[run, 0] // spacing, runs[run, 1] // spacing
    z = np.float32(runs[run, 0] - layer * spacing) * step
    y_ = np.float32(runs[run, 1] - line * spacing) * step
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
def _mix(context, result, first, values, places, weights):  # noqa: ARG001
    """Set some numbers of an array from `first` on: weighted sums of those in another from each
    place on.
    """
    kind = values.dtype
    signature = types.void(
        result, types.intp, values, types.UniTuple(types.intp, 4), types.UniTuple(kind, 4)
    )

    def generate(context, builder, signature, arguments):
        result, first, values, places, weights = arguments
        lanes = Lanes(context, builder, signature.args[0], _LANES)
        total = lanes.zero
        for number in range(4):
            part = lanes.load(lanes.place(values, builder.extract_value(places, number)))
            total = lanes.multiply_add(
                lanes.spread(builder.extract_value(weights, number)), part, total
            )
        lanes.store(total, lanes.place(result, first))
        return context.get_dummy_value()

    return signature, generate
