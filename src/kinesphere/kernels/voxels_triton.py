"""Eq. 6 of DynaMight on a GPU: sampling images at moved, projected voxels, and its transpose, as
Triton kernels.

`pull` is one program a block of voxels, which goes through the images and keeps its sums in
registers. `push` finds the places of all voxels in all images and leaves the rest to
`spreading_triton`: no atomics. Where a voxel is in an image is worked out
by both from the nodes of the lattice; nothing of the size of voxels × nodes is kept.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from kinesphere.kernels import spreading_triton
from kinesphere.kernels.spreading_triton import FUSED, read
from kinesphere.kernels.voxels import Views, VoxelLattice

_BLOCK = 128


def pull(
    grids: Float[Tensor, "b N N"], views: Views, lattice: VoxelLattice
) -> Float[Tensor, " voxels"]:
    """Sample each image at the moved, projected voxels and add up: see `voxels.pull`."""
    total = torch.empty(lattice.n_voxels, dtype=torch.float64, device=grids.device)
    _launch(total, grids.contiguous(), views, lattice)
    return total


def push(
    values: Float[Tensor, " voxels"], views: Views, size: int, lattice: VoxelLattice
) -> Float[Tensor, "b N N"]:
    """Spread the voxels onto each image: see `voxels.push`."""
    return spreading_triton.spread(places(views, lattice), values, size)


def places(views: Views, lattice: VoxelLattice) -> Float[Tensor, "b voxels 2"]:
    """Where each image shows each voxel, xy in pixels of the oversampled image."""
    result = torch.empty(len(views), lattice.n_voxels, 2, device=lattice.device)
    _launch(result, None, views, lattice)
    return result


def _launch(result: Tensor, grids: Tensor | None, views: Views, lattice: VoxelLattice) -> None:
    """Fill in places, or where there are images, the sums of what is at those."""
    voxels, cells = lattice.voxels, lattice.node_numbers
    if len(voxels) == 0:
        return
    arrays = (
        array.contiguous() for array in (views.base, views.axes, views.node_xy, voxels, cells)
    )
    sizes = (
        len(views),
        len(voxels),
        views.node_xy.shape[1],
        cells.shape[1],
        cells.shape[2],
        lattice.spacing,
    )
    size = 0 if grids is None else grids.shape[-1]
    with torch.cuda.device_of(result):
        _visit_images[(triton.cdiv(len(voxels), _BLOCK),)](
            *(result, result if grids is None else grids, *arrays, *sizes, size),
            SAMPLES=grids is not None,
            BLOCK=_BLOCK,
            **FUSED,
        )


@triton.jit
@no_type_check
def _visit_images(
    result,
    grids,
    base,
    axes,
    node_xy,
    voxels,
    cells,
    n_images,
    n_voxels,
    n_nodes,
    lattice_y,
    lattice_x,
    spacing,
    size,
    SAMPLES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Find the places of a block of voxels image by image; store them, or the sums of what the
    images have there.
    """
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = voxel < n_voxels
    x, y, z = (
        _load(voxels + 3 * voxel, inside),
        _load(voxels + 3 * voxel + 1, inside),
        _load(voxels + 3 * voxel + 2, inside),
    )
    low_y = cells + ((z // spacing) * lattice_y + y // spacing) * lattice_x + x // spacing
    high_y = low_y + lattice_x
    layer = lattice_y * lattice_x
    n0, n1, n2, n3 = (
        _load(low_y, inside),
        _load(low_y + 1, inside),
        _load(high_y, inside),
        _load(high_y + 1, inside),
    )
    low_y, high_y = low_y + layer, high_y + layer
    n4, n5, n6, n7 = (
        _load(low_y, inside),
        _load(low_y + 1, inside),
        _load(high_y, inside),
        _load(high_y + 1, inside),
    )
    fraction_x, fraction_y, fraction_z = (
        (x % spacing) / spacing,
        (y % spacing) / spacing,
        (z % spacing) / spacing,
    )
    # nodes stay in registers for all images; only where these are shown changes
    total = tl.zeros((BLOCK,), tl.float64)
    for image in range(n_images):
        nodes = node_xy + tl.cast(image, tl.int64) * n_nodes * 2
        start = base + 2 * image
        axis = axes + 6 * image
        px = _straight(start, axis, x, y, z)
        px += _moved(
            nodes, n0, n1, n2, n3, n4, n5, n6, n7, fraction_x, fraction_y, fraction_z, inside
        )
        py = _straight(start + 1, axis + 1, x, y, z)
        py += _moved(
            nodes + 1, n0, n1, n2, n3, n4, n5, n6, n7, fraction_x, fraction_y, fraction_z, inside
        )
        if SAMPLES:
            value, _, _ = read(grids + tl.cast(image, tl.int64) * size * size, px, py, size, inside)
            total += value.to(tl.float64)
        else:
            at = result + 2 * (tl.cast(image, tl.int64) * n_voxels + voxel)
            tl.store(at, px, mask=inside)
            tl.store(at + 1, py, mask=inside)
    if SAMPLES:
        tl.store(result + voxel, total, mask=inside)


@triton.jit
@no_type_check
def _load(at, inside):
    """Load integers, of 64 bits in memory."""
    return tl.load(at, mask=inside, other=0).to(tl.int32)


@triton.jit
@no_type_check
def _straight(start, axis, x, y, z):
    """Project voxels without motion: one component, xy being next to each other in memory."""
    return tl.load(start) + x * tl.load(axis) + y * tl.load(axis + 2) + z * tl.load(axis + 4)


@triton.jit
@no_type_check
def _moved(nodes, n0, n1, n2, n3, n4, n5, n6, n7, fraction_x, fraction_y, fraction_z, inside):
    """Interpolate one component of the displacements trilinearly; nodes are counted along x, then
    y, then z.
    """
    near = _along(nodes, n0, n1, fraction_x, inside)
    near += fraction_y * (_along(nodes, n2, n3, fraction_x, inside) - near)
    far = _along(nodes, n4, n5, fraction_x, inside)
    far += fraction_y * (_along(nodes, n6, n7, fraction_x, inside) - far)
    return near + fraction_z * (far - near)


@triton.jit
@no_type_check
def _along(nodes, left, right, fraction, inside):
    """Interpolate one component between two nodes."""
    start = tl.load(nodes + 2 * left, mask=inside, other=0.0)
    stop = tl.load(nodes + 2 * right, mask=inside, other=0.0)
    return start + fraction * (stop - start)
