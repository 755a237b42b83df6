"""Poses: scipy's ZYZ is RELION's rot, tilt, psi; a point of the volume lands in the image at Rᵀ
x."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from kinesphere.imaging.pose import (
    euler_from_rotation,
    project_points,
    project_states,
    rotation_from_euler,
)


def random_euler(n: int, seed: int = 0) -> np.ndarray:
    """Angles as RELION writes them: rot and psi in ±180°, tilt in 0–180°."""
    draw = np.random.default_rng(seed)
    return np.stack(
        [draw.uniform(-180, 180, n), draw.uniform(1, 179, n), draw.uniform(-180, 180, n)], 1
    )


def test_matrix_is_the_product_of_three_elementary_rotations() -> None:
    def about_z(degrees: float) -> np.ndarray:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def about_y(degrees: float) -> np.ndarray:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])

    euler = random_euler(5)
    expected = [about_z(rot) @ about_y(tilt) @ about_z(psi) for rot, tilt, psi in euler]
    np.testing.assert_allclose(rotation_from_euler(euler), expected, atol=1e-12)


def test_angles_survive_the_way_through_matrices() -> None:
    euler = random_euler(100, seed=1)
    np.testing.assert_allclose(euler_from_rotation(rotation_from_euler(euler)), euler, atol=1e-8)


def test_matrices_survive_the_way_through_angles() -> None:
    rotation = Rotation.random(100, random_state=2).as_matrix()
    np.testing.assert_allclose(
        rotation_from_euler(euler_from_rotation(rotation)), rotation, atol=1e-12
    )


def test_relion_angles_without_a_matrix() -> None:
    # rot about z by 90° alone: Rᵀ takes the volume's y axis onto the image's x axis
    point = torch.tensor([[[0.0, 2.0, 5.0]]])
    image = project_points(
        point, torch.from_numpy(rotation_from_euler(np.array([[90.0, 0.0, 0.0]]))).float()
    )
    torch.testing.assert_close(image, torch.tensor([[[2.0, 0.0]]]), atol=1e-6, rtol=0)


def test_projection_keeps_the_first_two_coordinates_of_the_turned_point() -> None:
    rotation = torch.from_numpy(rotation_from_euler(random_euler(4, seed=3)))
    points = torch.randn(4, 7, 3, dtype=torch.float64)
    turned = torch.stack(
        [torch.stack([r.T @ x for x in p]) for r, p in zip(rotation, points, strict=True)]
    )
    torch.testing.assert_close(project_points(points, rotation), turned[..., :2])


def test_states_are_projected_in_every_pose() -> None:
    rotation = torch.from_numpy(rotation_from_euler(random_euler(3, seed=4))).float()
    states = torch.randn(5, 11, 3)
    expected = torch.stack([project_points(states, r.expand(5, 3, 3)) for r in rotation])
    torch.testing.assert_close(project_states(states, rotation), expected)
