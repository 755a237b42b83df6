"""Poses: from Euler angles to the projection of points onto an image."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor


def rotation_from_euler(euler_degrees: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn RELION Euler angles (rot, tilt, psi) into rotation matrices.

    Parameters
    ----------
    euler_degrees
        (n, 3): rlnAngleRot, rlnAngleTilt, rlnAnglePsi in degrees.

    Returns
    -------
    ndarray
        (n, 3, 3) matrices R with x_image = Rᵀ · x_volume: intrinsic ZYZ, measured against
        `relion_project`.
    """
    matrices: NDArray[np.float64] = Rotation.from_euler(
        "ZYZ", np.asarray(euler_degrees, float), degrees=True
    ).as_matrix()
    return matrices


def euler_from_rotation(rotation: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn rotation matrices (n, 3, 3) into RELION Euler angles (rot, tilt, psi), (n, 3) in
    degrees.
    """
    with warnings.catch_warnings():
        # Without tilt only rot + psi is defined, and scipy says so; its choice (psi = 0) is as good
        # as any.
        warnings.filterwarnings("ignore", message="Gimbal lock")
        angles: NDArray[np.float64] = Rotation.from_matrix(rotation).as_euler("ZYZ", degrees=True)
    return angles


def project_points(
    points: Float[Tensor, "*b p 3"], rotation: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b p 2"]:
    """Project points along the beam: the first two rows of Rᵀ applied to every point.

    Parameters
    ----------
    points
        (n_images, n_points, 3) xyz in Å, the centre of the box at zero.
    rotation
        (n_images, 3, 3) R with x_image = Rᵀ · x_volume.

    Returns
    -------
    Tensor
        (n_images, n_points, 2) xy in Å in the image, the image centre at zero.
    """
    return points @ rotation[..., :, :2]


def project_states(
    states: Float[Tensor, "k p 3"], rotation: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b k p 2"]:
    """Project each of k shared structures in the pose of each of b images, as one matrix product.

    Parameters
    ----------
    states
        (n_states, n_points, 3) xyz in Å.
    rotation
        (n_images, 3, 3).

    Returns
    -------
    Tensor
        (n_images, n_states, n_points, 2) xy in Å.
    """
    n_states, n_points, _ = states.shape
    flat = torch.matmul(states.reshape(1, -1, 3), rotation[..., :, :2])  # (b, k·p, 2)
    return flat.reshape(rotation.shape[0], n_states, n_points, 2)
