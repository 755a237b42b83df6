"""Masks: the automatic threshold finds the molecule, edges are soft, and what a user gives is
checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.io.mrc import write_map
from kinesphere.reconstruction.masks import (
    automatic_mask,
    near_points,
    read_mask,
    soft_edge,
    solvent_threshold,
    sphere_mask,
)

BOX, PIXEL_ANGSTROM = 48, 2.0


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    """Voxels of a ball, (z, y, x) about the box centre."""
    place = np.indices((BOX,) * 3) - BOX // 2 - np.array(centre)[:, None, None, None]
    inside: np.ndarray = (place**2).sum(0) < radius**2
    return inside


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_automatic_mask_holds_the_molecule_and_little_else(noise: float) -> None:
    molecule = ball((2, -4, 3), 8.0)
    density = molecule + noise * np.random.default_rng(0).standard_normal((BOX,) * 3)
    mask = automatic_mask(density.astype(np.float32), PIXEL_ANGSTROM)
    assert mask[molecule].mean() > 0.97
    assert (mask > 0.5).sum() < 5.0 * molecule.sum()
    assert mask[ball((0, 0, 0), 40.0) & ~ball((2, -4, 3), 19.0)].max() == 0.0


def test_automatic_mask_drops_specks() -> None:
    density = ball((0, 0, 0), 8.0) + 0.5 * ball((0, 0, 18), 1.5)
    mask = automatic_mask(density.astype(np.float32), PIXEL_ANGSTROM)
    assert mask[BOX // 2, BOX // 2, BOX // 2 + 18] == 0.0


def test_threshold_is_above_noise_and_below_signal() -> None:
    rng = np.random.default_rng(1)
    noise = 0.02 * rng.standard_normal((BOX,) * 3)
    threshold = solvent_threshold((ball((0, 0, 0), 8.0) + noise).astype(np.float32))
    assert noise.max() < threshold < 0.2


def test_edge_is_a_cosine_of_the_distance() -> None:
    inside = np.zeros((BOX,) * 3, bool)
    inside[:, :, : BOX // 2] = True
    profile = soft_edge(inside, 2.0, 4.0)[0, 0, BOX // 2 - 1 :]
    expected = [1.0, 1.0, 1.0, *(0.5 + 0.5 * np.cos(np.pi * np.arange(1, 5) / 4)), 0.0]
    assert profile[:8] == pytest.approx(expected, abs=1e-6)


def test_voxels_near_points_are_those_within_the_distance() -> None:
    points = np.array([[10.0, -20.0, 6.0], [-15.0, 0.0, 0.0]])
    inside = near_points(points, RenderGrid(BOX, PIXEL_ANGSTROM), 7.5)
    z, y, x = (np.indices((BOX,) * 3) - BOX // 2) * PIXEL_ANGSTROM
    distance = np.min(
        [np.sqrt((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) for p in points], axis=0
    )
    assert np.array_equal(inside, distance <= 7.5)
    assert not near_points(points + 500.0, RenderGrid(BOX, PIXEL_ANGSTROM), 7.5).any()
    assert not near_points(points[:0], RenderGrid(BOX, PIXEL_ANGSTROM), 7.5).any()


def test_sphere_is_one_inside_and_zero_outside() -> None:
    sphere = sphere_mask(BOX, 20.0, 3.0)
    assert sphere[BOX // 2, BOX // 2, BOX // 2 + 17] == 1.0
    assert sphere[BOX // 2, BOX // 2, BOX // 2 + 20] == 0.0


@pytest.mark.parametrize(
    ("data", "pixel", "problem"),
    [
        (np.ones((40, 40, 40)), PIXEL_ANGSTROM, "has 40 px"),
        (np.ones((BOX,) * 3), 2.5, "of 2.5 Å"),
        (np.zeros((BOX,) * 3), PIXEL_ANGSTROM, "is empty"),
        (3.0 * np.ones((BOX,) * 3), PIXEL_ANGSTROM, "not from 0 to 1"),
    ],
)
def test_unusable_masks_are_refused(
    data: np.ndarray, pixel: float, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.mrc"
    write_map(path, data, pixel)
    with pytest.raises(InputError, match=problem):
        read_mask(path, RenderGrid(BOX, PIXEL_ANGSTROM))


def test_a_good_mask_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mask.mrc"
    write_map(path, sphere_mask(BOX, 15.0, 5.0), PIXEL_ANGSTROM)
    assert np.array_equal(
        read_mask(path, RenderGrid(BOX, PIXEL_ANGSTROM)), sphere_mask(BOX, 15.0, 5.0)
    )
