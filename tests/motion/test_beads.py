"""Gaussians that stand for atoms: as many electrons, about the same centre, whatever they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.fake_run import helix_bundle
from kinesphere.motion.beads import BeadPlacement, place_beads

MODEL = helix_bundle()
POSITIONS = MODEL.positions_angstrom
POINTS = np.arange(MODEL.n_residues)


@pytest.mark.parametrize("placement", ["centroid", "centre", "atoms"])
def test_electrons_are_kept(placement: BeadPlacement) -> None:
    beads, electrons, owner = place_beads(MODEL, POSITIONS, POINTS, placement)
    assert electrons.sum() == MODEL.atomic_number.sum()
    assert beads.shape == (len(electrons), 3)
    by_residue = np.bincount(MODEL.residue_index, MODEL.atomic_number)
    np.testing.assert_allclose(np.bincount(owner, electrons), by_residue)


def test_centroids_are_electron_weighted() -> None:
    beads, _, _ = place_beads(MODEL, POSITIONS, POINTS, "centroid")
    rows = MODEL.residue_index == 17
    weight = MODEL.atomic_number[rows].astype(float)
    np.testing.assert_allclose(beads[17], weight @ POSITIONS[rows] / weight.sum())


def test_central_atoms_and_atoms_are_where_they_are() -> None:
    centre, _, _ = place_beads(MODEL, POSITIONS, POINTS, "centre")
    np.testing.assert_array_equal(centre, MODEL.centres_angstrom)
    atoms, _, owner = place_beads(MODEL, POSITIONS, POINTS, "atoms")
    np.testing.assert_array_equal(atoms, POSITIONS)
    np.testing.assert_array_equal(owner, MODEL.residue_index)


def test_absent_atoms_have_no_electrons_and_hydrogens_no_gaussian() -> None:
    number, occupancy = MODEL.atomic_number.copy(), MODEL.occupancy.copy()
    number[4:6] = 1
    occupancy[MODEL.residue_index == 2] = 0.0
    model = replace(MODEL, atomic_number=number, occupancy=occupancy)
    _, electrons, owner = place_beads(model, POSITIONS, POINTS, "atoms")
    assert len(electrons) == MODEL.n_atoms - 4 - 2
    assert 2 not in owner
    _, electrons, owner = place_beads(model, POSITIONS, POINTS, "centroid")
    assert 2 not in owner
    assert electrons[owner == 1] == [1 + 1 + 6 + 8]


def test_gaussians_move_with_the_point_of_their_residue() -> None:
    """Of residues in pairs: as ligands move with the residue that is nearest."""
    _, _, owner = place_beads(MODEL, POSITIONS, POINTS // 2, "centroid")
    np.testing.assert_array_equal(owner, POINTS // 2)
