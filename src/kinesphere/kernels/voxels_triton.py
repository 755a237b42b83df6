"""Eq. 6 of DynaMight on a GPU: sampling images at moved, projected voxels, and its transpose, as
Triton kernels.

`pull` is one program a block of voxels, which goes through the images and keeps its sums in
registers. `push` finds the places of all voxels in all images and leaves the rest to
`spreading_triton`, whose spline is the same: no atomics. Where a voxel is in an image is worked out
by both from the nodes of the lattice; nothing of the size of voxels × nodes is kept. The references
are `operator.pull_reference` and `operator.push_reference`.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.kernels import spreading_triton
from kinesphere.kernels.spreading_triton import FUSED, read
from kinesphere.reconstruction.operator import (
    Views,
    pull_reference,
    push_reference,
    trilinear_corners,
)
from kinesphere.reconstruction.support import Support

_BLOCK = 128
_CHECKED_TO = 1e-4  # places in pixels of a grid have five digits behind the point


def pull(
    grids: Float[Tensor, "b N N"],
    views: Views,
    voxels: Int[Tensor, "voxels 3"],
    cells: Int[Tensor, "lz ly lx"],
    spacing: int,
) -> Float[Tensor, " voxels"]:
    """Sample each image at the moved, projected voxels and add up, in double precision over images.

    Parameters
    ----------
    grids
        (b, N, N) oversampled images.
    views
        How they look at the support.
    voxels, cells, spacing
        Of the `Support`: x, y, z of voxels, number of the node at each lattice position, voxels
        between nodes.
    """
    total = torch.empty(len(voxels), dtype=torch.float64, device=grids.device)
    _launch(total, grids.contiguous(), views, voxels, cells, spacing)
    return total


def push(
    values: Float[Tensor, " voxels"],
    views: Views,
    size: int,
    voxels: Int[Tensor, "voxels 3"],
    cells: Int[Tensor, "lz ly lx"],
    spacing: int,
) -> Float[Tensor, "b N N"]:
    """Spread the voxels onto each image: the transpose of `pull`, which tells what the other
    arguments are.

    Parameters
    ----------
    values
        (n_voxels,) density.
    size
        N, the size of the oversampled images.
    """
    return spreading_triton.spread(places(views, voxels, cells, spacing), values.float(), size)


def places(
    views: Views, voxels: Int[Tensor, "voxels 3"], cells: Int[Tensor, "lz ly lx"], spacing: int
) -> Float[Tensor, "b voxels 2"]:
    """Where each image shows each voxel, xy in pixels of the oversampled image."""
    found = torch.empty(len(views), len(voxels), 2, device=voxels.device)
    _launch(found, None, views, voxels, cells, spacing)
    return found


def check(device: torch.device) -> None:
    """Compare with the references on a few voxels.

    Raises
    ------
    ArithmeticError
        Where the results differ by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    inside = np.zeros((8, 8, 8), dtype=bool)
    inside[2:6, 1:5, 3:7] = True
    support, size = Support.of_voxels(inside, 1.0, spacing_px=2), 20
    shapes = ((2, 2), (2, 3, 2), (2, support.n_nodes, 2), (2, size, size), (support.n_voxels,))
    arrays = [2.0 * torch.randn(shape, generator=generator) for shape in shapes]
    geometry = [torch.from_numpy(array.copy()) for array in (support.voxels_px, support.cells)]
    base, axes, node_xy, grids, values, voxels, cells = (
        array.to(device) for array in (*arrays, *geometry)
    )
    views, spacing = Views(base, axes, node_xy), support.spacing_px
    found = (
        pull(grids, views, voxels, cells, spacing),
        push(values, views, size, voxels, cells, spacing),
    )
    # on the processor, where no setting of the user's lets the reference multiply with fewer digits
    views, fixed = Views(*arrays[:3]), (geometry[0], trilinear_corners(support))
    expected = (
        pull_reference(arrays[3], views, *fixed),
        push_reference(arrays[4], views, size, *fixed),
    )
    for one, other in zip(found, expected, strict=True):
        if not torch.allclose(one.cpu(), other, rtol=_CHECKED_TO, atol=_CHECKED_TO):
            raise ArithmeticError("projection by Triton differs from its reference")


def _launch(
    found: Tensor, grids: Tensor | None, views: Views, voxels: Tensor, cells: Tensor, spacing: int
) -> None:
    """Fill in places, or where there are images, the sums of what is at those."""
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
        spacing,
    )
    size = 0 if grids is None else grids.shape[-1]
    with torch.cuda.device_of(found):
        _visit_images[(triton.cdiv(len(voxels), _BLOCK),)](
            *(found, found if grids is None else grids, *arrays, *sizes, size),
            SAMPLES=grids is not None,
            BLOCK=_BLOCK,
            **FUSED,
        )


@triton.jit
@no_type_check
def _visit_images(
    found,
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
    high_y, layer = low_y + lattice_x, lattice_y * lattice_x
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
    share_x, share_y, share_z = (
        (x % spacing) / spacing,
        (y % spacing) / spacing,
        (z % spacing) / spacing,
    )
    total = tl.zeros((BLOCK,), tl.float64)
    for image in range(n_images):
        nodes = node_xy + tl.cast(image, tl.int64) * n_nodes * 2
        start, axis = base + 2 * image, axes + 6 * image
        px = _straight(start, axis, x, y, z)
        px += _moved(nodes, n0, n1, n2, n3, n4, n5, n6, n7, share_x, share_y, share_z, inside)
        py = _straight(start + 1, axis + 1, x, y, z)
        py += _moved(nodes + 1, n0, n1, n2, n3, n4, n5, n6, n7, share_x, share_y, share_z, inside)
        if SAMPLES:
            value, _, _ = read(grids + tl.cast(image, tl.int64) * size * size, px, py, size, inside)
            total += value.to(tl.float64)
        else:
            at = found + 2 * (tl.cast(image, tl.int64) * n_voxels + voxel)
            tl.store(at, px, mask=inside)
            tl.store(at + 1, py, mask=inside)
    if SAMPLES:
        tl.store(found + voxel, total, mask=inside)


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
def _moved(nodes, n0, n1, n2, n3, n4, n5, n6, n7, share_x, share_y, share_z, inside):
    """Interpolate one component of the displacements trilinearly; nodes are counted along x, then
    y, then z.
    """
    near = _along(nodes, n0, n1, share_x, inside)
    near += share_y * (_along(nodes, n2, n3, share_x, inside) - near)
    far = _along(nodes, n4, n5, share_x, inside)
    far += share_y * (_along(nodes, n6, n7, share_x, inside) - far)
    return near + share_z * (far - near)


@triton.jit
@no_type_check
def _along(nodes, left, right, share, inside):
    """Interpolate one component between two nodes."""
    start = tl.load(nodes + 2 * left, mask=inside, other=0.0)
    stop = tl.load(nodes + 2 * right, mask=inside, other=0.0)
    return start + share * (stop - start)
