"""Voxels, the rows they are worked through in, and the lattice of nodes."""

from __future__ import annotations

import numpy as np

from kinesphere.reconstruction.support import Support


def test_runs_list_each_voxel_once_in_the_order_of_the_map(support: Support) -> None:
    listed = [
        (z, y, x, number + x - first)
        for z, y, first, stop, number in support.runs
        for x in range(first, stop)
    ]
    places = np.array(listed)
    assert np.array_equal(places[:, :3], np.argwhere(support.inside))
    assert np.array_equal(places[:, 3], np.arange(support.n_voxels))


def test_each_voxel_lies_in_a_cell_with_eight_nodes(support: Support) -> None:
    cell = support.voxels_px // support.spacing_px
    for corner in np.ndindex(2, 2, 2):
        at = cell + np.array(corner)
        assert (support.cells[at[:, 2], at[:, 1], at[:, 0]] >= 0).all()


def test_nodes_are_where_the_lattice_says(support: Support) -> None:
    z, y, x = np.argwhere(support.cells == 5)[0]
    expected = (
        np.array([x, y, z]) * support.spacing_px - support.grid.box // 2
    ) * support.grid.pixel_size_angstrom
    assert np.allclose(support.nodes_angstrom[5], expected)


def test_values_go_back_to_their_voxels(support: Support) -> None:
    values = np.arange(support.n_voxels, dtype=np.float32)
    assert np.array_equal(support.embed(values)[support.inside], values)
    assert support.embed(values)[~support.inside].max() == 0


def test_nodes_are_three_angstrom_apart_but_never_at_every_voxel() -> None:
    inside = np.ones((8, 8, 8), bool)
    assert Support.of_voxels(inside, 1.0).spacing_px == 3
    assert Support.of_voxels(inside, 4.0).spacing_px == 2
