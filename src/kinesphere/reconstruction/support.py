"""Where density is sought: the voxels of a support, and the coarse lattice of nodes that carries
their displacement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from kinesphere.imaging.gaussians import RenderGrid

_NODE_SPACING_ANGSTROM = 3.0
_FEWEST_VOXELS_A_NODE = 2


@dataclass(frozen=True, eq=False)
class Support:
    """Voxels whose density is unknown, in the order of the flattened map, and the lattice their
    motion is known on.

    Parameters
    ----------
    grid
        Box and pixel size of map and images.
    inside
        (n, n, n) bool, `[z, y, x]`.
    spacing_px
        Voxels between nodes.
    runs
        (n_runs, 5) int64: z, y, first x, last x + 1, and number of the first voxel of each row of
        voxels.
    cells
        (lz, ly, lx) int64: number of the node at each lattice position, −1 where no voxel needs
        one.
    nodes_angstrom
        (n_nodes, 3) xyz, the box centre at zero.
    """

    grid: RenderGrid
    inside: Bool[np.ndarray, "n n n"]
    spacing_px: int
    runs: Int[np.ndarray, "runs 5"]
    cells: Int[np.ndarray, "lz ly lx"]
    nodes_angstrom: Float[np.ndarray, "nodes 3"]

    @classmethod
    def of_voxels(
        cls,
        inside: Bool[np.ndarray, "n n n"],
        pixel_size_angstrom: float,
        spacing_px: int | None = None,
    ) -> Support:
        """Lay the lattice over some voxels; by default a node every 3 Å, or every second voxel if
        that is more.

        DynaMight, too, evaluates its deformation field on a grid of twice the pixel size.
        """
        spacing = spacing_px or max(
            round(_NODE_SPACING_ANGSTROM / pixel_size_angstrom), _FEWEST_VOXELS_A_NODE
        )
        box = inside.shape[0]
        cells, lattice = _lay_lattice(inside, spacing)
        nodes = (lattice[:, ::-1] * spacing - box // 2) * pixel_size_angstrom
        return cls(
            RenderGrid(box, pixel_size_angstrom),
            inside,
            spacing,
            _rows(inside),
            cells,
            nodes.astype(float),
        )

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return int(self.inside.sum())

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.nodes_angstrom)

    @property
    def voxels_px(self) -> Int[np.ndarray, "voxels 3"]:
        """(n_voxels, 3) indices x, y, z of the voxels, in their order."""
        return np.argwhere(self.inside)[:, ::-1]

    def embed(self, values: Float[np.ndarray, " voxels"]) -> Float[np.ndarray, "n n n"]:
        """Put one value a voxel into a map that is zero elsewhere."""
        volume = np.zeros(self.inside.shape, values.dtype)
        volume[self.inside] = values
        return volume


def _rows(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """List the runs of consecutive voxels along x."""
    step = np.diff(np.pad(inside, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)
    z, y, first = np.nonzero(step == 1)
    stop = np.nonzero(step == -1)[2]
    length = stop - first
    return np.stack([z, y, first, stop, np.cumsum(length) - length], axis=1).astype(np.int64)


def _lay_lattice(
    inside: NDArray[np.bool_], spacing: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give a number to each corner of a cell that holds a voxel, −1 to others; also where on the
    lattice they are.
    """
    n_cells = -(-inside.shape[0] // spacing)
    needed = np.zeros((n_cells + 1,) * 3, dtype=bool)
    z, y, x = (np.nonzero(inside)[axis] // spacing for axis in range(3))
    for corner in np.ndindex(2, 2, 2):
        needed[z + corner[0], y + corner[1], x + corner[2]] = True
    cells = np.full(needed.shape, -1, dtype=np.int64)
    cells[needed] = np.arange(int(needed.sum()))
    return cells, np.argwhere(needed)
