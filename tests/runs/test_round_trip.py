"""There and back: the inverse of a known motion, and a map carried by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.twist import Twist
from kinesphere.io.mrc import DensityMap
from kinesphere.motion.base import Motion
from kinesphere.runs.round_trip import RoundTrip, map_in_state, measure_round_trip
from kinesphere.runs.run import Run

BOX, PIXEL_ANGSTROM = 24, 2.0
Z = np.array([0.0, 1.0, -1.5])


class Shift(Motion):
    """Everything moves by z voxels along x, and twice as far along z."""

    def move(self, z: Tensor, points: Tensor, owner: Tensor) -> Tensor:  # noqa: ARG002 - all alike
        return points + PIXEL_ANGSTROM * z[:, None] * torch.tensor([1.0, 0.0, 2.0])

    def memberships(self) -> Tensor:
        return torch.ones(len(self.reference), 1)


class KnownRun(Run):
    """A run whose motion and latents are given."""

    def __init__(self, motion: Motion) -> None:
        self.known = motion

    def motion_of(self, image: int) -> tuple[Motion, Tensor]:
        return self.known, torch.tensor([Z[image]], dtype=torch.float32)


def places(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-20.0, 20.0, (n, 3))


def test_a_large_twist_is_undone() -> None:
    points = places(200)
    run = KnownRun(Twist(torch.from_numpy(points).float(), 1))
    steps: list[int] = []
    trip = measure_round_trip(run, points, np.array([2, 0, 1]), steps.append)
    assert trip.error_angstrom.shape == (3, 200)
    assert trip.error_angstrom.max() < 1e-3
    assert sum(steps) == 3


def test_many_points_are_sampled_the_same_way_each_time() -> None:
    points = places(4500)
    run = KnownRun(Shift(torch.zeros(1, 3), 1))
    first, second = (measure_round_trip(run, points, np.array([1])) for _ in range(2))
    assert first.points.shape == (4000, 3)
    np.testing.assert_array_equal(first.points, second.points)
    assert {tuple(point) for point in first.points} <= {tuple(point) for point in points}


def test_errors_are_summed_up_over_points_and_images() -> None:
    error = np.arange(200.0).reshape(2, 100)
    trip = RoundTrip(np.arange(2), np.zeros((100, 3)), error)
    assert trip.median == 99.5
    assert trip.percentile_99 == pytest.approx(197.01)


def test_a_map_moves_with_its_molecule() -> None:
    """By whole voxels, so that nothing is interpolated: x to the right, z up, around the
    molecule."""
    density = np.zeros((BOX, BOX, BOX), np.float32)
    density[9:14, 10:15, 8:13] = np.random.default_rng(1).uniform(1.0, 2.0, (5, 5, 5))
    map_ = DensityMap(density, PIXEL_ANGSTROM, np.zeros(3))
    run = KnownRun(Shift(torch.zeros(1, 3), 1))
    moved = map_in_state(run, map_, density > 0, 1, margin_angstrom=6.0)
    np.testing.assert_allclose(moved, np.roll(density, (2, 1), (0, 2)), atol=1e-3)


def test_far_from_the_molecule_a_map_stays_empty() -> None:
    density = np.ones((BOX, BOX, BOX), np.float32)
    inside = np.zeros(density.shape, bool)
    inside[12, 12, 12] = True
    map_ = DensityMap(density, PIXEL_ANGSTROM, np.zeros(3))
    still = map_in_state(KnownRun(Shift(torch.zeros(1, 3), 1)), map_, inside, 0, 4.0)
    assert int((still != 0).sum()) == 33  # voxels within two of one
