"""Superposition and rotation statistics against rotations made with scipy."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.analysis.rigid import rotation_statistics, shift_statistics, superpose


def test_superposition_recovers_rotations_and_shifts() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 12, (40, 3))
    rotation, shift = Rotation.random(25, rng=rng).as_matrix(), rng.normal(0, 30, (25, 3))
    moved = points @ rotation.transpose(0, 2, 1) + shift[:, None]
    fit = superpose(points, moved)
    assert fit.rotation == pytest.approx(rotation, abs=1e-10)
    assert fit.apply(points) == pytest.approx(moved, abs=1e-9)
    assert fit.undo(moved) == pytest.approx(np.tile(points, (25, 1, 1)), abs=1e-9)


def test_superposition_never_mirrors() -> None:
    points = np.random.default_rng(1).normal(0, 5, (20, 3))
    fit = superpose(points, (points * [1, 1, -1])[None])
    assert np.linalg.det(fit.rotation) == pytest.approx(1.0)


def test_rotation_statistics_find_axis_and_range() -> None:
    axis = np.array([1.0, -2.0, 2.0]) / 3
    angle = np.linspace(-20, 30, 2001)
    tilt = Rotation.from_euler("xyz", [40, 10, 70], degrees=True)
    statistics = rotation_statistics(
        (tilt * Rotation.from_rotvec(np.radians(angle)[:, None] * axis)).as_matrix()
    )
    assert abs(np.dot(statistics.axis, axis)) == pytest.approx(1.0, abs=1e-6)
    assert statistics.range_degrees == pytest.approx(45.0, abs=0.1)
    assert statistics.std_degrees == pytest.approx(50 / np.sqrt(12), rel=0.01)
    assert statistics.percentiles_degrees[1] == pytest.approx(0.0, abs=0.1)


def test_shift_statistics_find_direction_and_extent() -> None:
    rng = np.random.default_rng(2)
    t = rng.uniform(-10, 10, 20000)
    statistics = shift_statistics(t[:, None] * np.array([0.0, 0.6, 0.8]) + 100.0)
    assert statistics.direction == pytest.approx((0.0, 0.6, 0.8), abs=1e-6)
    assert statistics.range_angstrom == pytest.approx(18.0, rel=0.01)
    assert statistics.rms_angstrom == pytest.approx(20 / np.sqrt(12), rel=0.01)


def test_two_points_have_no_rotation() -> None:
    fit = superpose(np.eye(3)[:2], np.eye(3)[None, 1:])
    assert np.array_equal(fit.rotation[0], np.eye(3))
