"""Pseudo-atoms: a map made of Gaussians is recognised, where it is and as dense as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from kinesphere.errors import InputError
from kinesphere.motion.pseudo_atoms import (
    PseudoAtoms,
    default_count,
    find_solid,
    low_pass,
    place_pseudo_atoms,
    pseudo_atoms_of,
)

STEP, WIDTH, RESOLUTION = 2.0, 3.0, 9.0
SOURCE = Path("consensus.mrc")


def blobs() -> np.ndarray:
    """Centres of 40 Gaussians in two lobes, off the centre of the box."""
    draw = np.random.default_rng(2)
    return np.concatenate(
        [draw.uniform(-9, 9, (20, 3)) + offset for offset in ([12.0, 4.0, -3.0], [-8.0, 2.0, 6.0])]
    )


def density_of(centres: np.ndarray, amplitude: np.ndarray, width: float, box: int) -> np.ndarray:
    """Sum of Gaussians on a grid, in real space, indexed [z, y, x]."""
    axis = (np.arange(box) - box // 2) * STEP
    total = np.zeros((box,) * 3)
    for place, weight in zip(centres, amplitude, strict=True):
        x, y, z = (np.exp(-0.5 * ((axis - value) / width) ** 2) for value in place)
        total += weight * z[:, None, None] * y[None, :, None] * x[None, None, :]
    return total / (2 * np.pi * width**2) ** 1.5


def noisy_map(box: int = 40) -> np.ndarray:
    centres = blobs()
    clean = density_of(centres, np.ones(len(centres)), WIDTH, box)
    return clean + 0.02 * clean.max() * np.random.default_rng(0).standard_normal(clean.shape)


@pytest.mark.parametrize("box", [40, 41])
def test_gaussians_of_the_fit_are_the_map(box: int) -> None:
    solid = find_solid(noisy_map(box), STEP, RESOLUTION, SOURCE)
    atoms = pseudo_atoms_of(solid, 80, RESOLUTION, 1, seed=0)
    clean = density_of(blobs(), np.ones(40), WIDTH, box)
    found = density_of(
        atoms.positions.numpy(), atoms.amplitude[0].numpy(), float(atoms.width_angstrom[0]), box
    )
    target, _ = low_pass(clean, STEP, RESOLUTION)
    rendered, _ = low_pass(found, STEP, RESOLUTION)
    difference = np.linalg.norm(rendered - target) / np.linalg.norm(target)
    assert difference < 0.12  # amplitude, width and place all agree: no scale is fitted here


def test_points_cover_the_molecule_evenly_and_nothing_else() -> None:
    solid = find_solid(noisy_map(), STEP, RESOLUTION, SOURCE)
    points = place_pseudo_atoms(solid, 100, seed=1)
    inside, _ = solid.voxels()
    assert cKDTree(points).query(inside)[0].max() < 2.0 * (solid.volume_angstrom3 / 100) ** (1 / 3)
    assert cKDTree(inside).query(points)[0].max() < solid.step_angstrom
    spacing = cKDTree(points).query(points, 2)[0][:, 1]
    assert spacing.min() > 0.3 * np.median(spacing)


def test_widths_of_classes_follow_the_local_resolution() -> None:
    sharp, blurred = blobs()[:20], blobs()[20:] + np.array([0.0, 0.0, 18.0])
    data = density_of(sharp, np.ones(20), 1.5, 48) + density_of(blurred, np.ones(20), 6.0, 48)
    solid = find_solid(data, STEP, 5.0, SOURCE)
    one, two = (pseudo_atoms_of(solid, 120, 5.0, classes, seed=0) for classes in (1, 2))
    assert float(two.width_angstrom.max() / two.width_angstrom.min()) > 1.3
    wide = int(two.width_angstrom.argmax())
    share = two.amplitude[wide] / two.amplitude.sum(0)
    to_sharp = torch.as_tensor(
        cKDTree(sharp).query(two.positions.numpy())[0] < cKDTree(blurred).query(two.positions)[0]
    )
    assert float(share[~to_sharp].mean()) > float(share[to_sharp].mean()) + 0.1
    assert len(one.amplitude) == 1


def test_filter_leaves_a_map_of_lower_resolution_where_it_is() -> None:
    centres = np.array([[11.0, -7.0, 5.0]])
    for box in (40, 41):
        filtered, step = low_pass(density_of(centres, np.ones(1), 6.0, box), STEP, 10.0)
        assert step > STEP
        axis = (np.arange(len(filtered)) - len(filtered) // 2) * step
        centre = [
            float((filtered.sum(others) * axis).sum() / filtered.sum())
            for others in ((0, 1), (0, 2), (1, 2))
        ]
        assert centre == pytest.approx(centres[0], abs=0.05)
        assert filtered.sum() * step**3 == pytest.approx(1.0, rel=1e-3)


def test_automatic_threshold_keeps_a_weak_domain_and_no_solvent() -> None:
    centres = blobs()
    weak = np.where(np.arange(40) < 20, 1.0, 0.5)
    clean = density_of(centres, weak, WIDTH, 40)
    data = clean + 0.01 * clean.max() * np.random.default_rng(0).standard_normal(clean.shape)
    solid = find_solid(data, STEP, RESOLUTION, SOURCE)
    voxels, _ = solid.voxels()
    distance, nearest = cKDTree(centres).query(voxels)
    assert distance.max() < 10.0
    assert (
        0.5
        < np.isin(nearest, np.arange(20, 40)).sum() / np.isin(nearest, np.arange(20)).sum()
        < 2.0
    )


def test_default_count_follows_volume_and_resolution() -> None:
    solid = find_solid(noisy_map(), STEP, RESOLUTION, SOURCE)
    assert default_count(solid, 3.0) == int(solid.volume_angstrom3 / 110.0)
    assert default_count(solid, 10.0) == max(int(solid.volume_angstrom3 / 1000.0), 10)


def test_what_cannot_be_filled_is_refused() -> None:
    data = noisy_map()
    with pytest.raises(InputError, match="inverted"):
        find_solid(-data, STEP, RESOLUTION, SOURCE)
    with pytest.raises(InputError, match="above the largest density"):
        find_solid(data, STEP, RESOLUTION, SOURCE, threshold=1e3)
    with pytest.raises(InputError, match="no molecule"):
        find_solid(np.zeros((40,) * 3), STEP, RESOLUTION, SOURCE)
    with pytest.raises(InputError, match="do not fit"):
        place_pseudo_atoms(find_solid(data, STEP, RESOLUTION, SOURCE), 100_000, seed=0)


def test_files_hold_them_whole(tmp_path: Path) -> None:
    atoms = pseudo_atoms_of(
        find_solid(noisy_map(), STEP, RESOLUTION, SOURCE), 20, RESOLUTION, 2, seed=0
    )
    atoms.save(tmp_path / "atoms.npz")
    again = PseudoAtoms.load(tmp_path / "atoms.npz")
    for name in ("positions", "amplitude", "width_angstrom", "edges"):
        assert torch.equal(getattr(atoms, name), getattr(again, name))
