"""Bond lengths along a path stay between those of its ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase
from kinesphere.simulate.geometry import restore_geometry


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(11)


def test_no_bond_breaks_and_no_atoms_meet(kinase: Ensemble) -> None:
    positions = kinase.positions
    bonds = cKDTree(positions[0]).query_pairs(1.95, output_type="ndarray")
    length = np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=-1)
    low, high = np.minimum(length[0], length[-1]), np.maximum(length[0], length[-1])
    assert (length > low - 0.1).all()
    assert (length < high + 0.1).all()
    bonded = {tuple(pair) for pair in bonds.tolist()}
    around_one_atom = cKDTree(positions[0]).query_pairs(2.75)
    for state in positions:
        contacts = cKDTree(state).query_pairs(1.8) - bonded - around_one_atom
        assert not contacts


def test_a_flipped_group_keeps_its_bonds() -> None:
    """Half way, an atom that swings round to the other side would lie on its neighbour."""
    start = np.array([[0.0, 0, 0], [1.5, 0, 0], [1.5, 1.2, 0]])
    end = np.array([[0.0, 0, 0], [1.5, 0, 0], [1.5, -1.2, 0]])
    fractions = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    line = start + fractions[:, None, None] * (end - start)
    restored = restore_geometry(line, fractions)
    squeezed = np.linalg.norm(line[:, 2] - line[:, 1], axis=1)
    bond = np.linalg.norm(restored[:, 2] - restored[:, 1], axis=1)
    assert squeezed[1] == pytest.approx(0.6)
    assert bond[[0, 1, 3, 4]] == pytest.approx(np.full(4, 1.2), abs=0.01)
    assert np.array_equal(restored[[0, -1]], line[[0, -1]])
