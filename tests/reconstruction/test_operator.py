"""Projection along a motion and its transpose: against finufft, the readable reference, and each
other."""

from __future__ import annotations

import finufft
import numpy as np
import pytest
import torch

from kinesphere.fourier import centred_rfft2, half_plane_weights, radial_shell_index
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.reconstruction.masks import near_points
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.support import Support

BOX, PIXEL_ANGSTROM = 24, 2.0


def blob(box: int) -> Support:
    """Voxels off the centre of a box."""
    points = np.array([[4.0, -6.0, 2.0], [-8.0, 3.0, -1.0], [0.0, 9.0, 8.0]])
    return Support.of_voxels(
        near_points(points, RenderGrid(box, PIXEL_ANGSTROM), 9.0), PIXEL_ANGSTROM, spacing_px=3
    )


def displacement(support: Support, n_images: int) -> torch.Tensor:
    return 3.0 * torch.randn(n_images, support.n_nodes, 3)


def image_product(left: torch.Tensor, right: torch.Tensor) -> float:
    """Inner product of half-plane images over the full plane."""
    weight = half_plane_weights(left.shape[-2], dtype=torch.float64)
    return float(((left.conj() * right).real.double() * weight).sum())


def interpolated(support: Support, nodes: np.ndarray) -> np.ndarray:
    """Trilinear interpolation of node values (n_nodes, c) to the voxels, by a loop over lattice
    positions."""
    voxels = support.voxels_px / support.spacing_px
    lattice = np.argwhere(support.cells >= 0)
    values = np.zeros((len(voxels), nodes.shape[1]))
    for z, y, x in lattice:
        hat = np.clip(1.0 - np.abs(voxels - [x, y, z]), 0.0, 1.0).prod(1)
        values += hat[:, None] * nodes[support.cells[z, y, x]]
    return values


@pytest.mark.parametrize("box", [BOX, BOX + 1])
def test_projection_is_the_fourier_sum_over_moved_voxels(box: int, rotation: torch.Tensor) -> None:
    support = blob(box)
    moves = displacement(support, len(rotation))
    density = torch.rand(support.n_voxels)
    projector = DeformedProjector(support)
    images = projector.project(density, projector.views(rotation, moves)).numpy()
    at_rest = (support.voxels_px - box // 2) * PIXEL_ANGSTROM
    shell = radial_shell_index(box).numpy()
    for image in range(len(rotation)):
        moved = at_rest + interpolated(support, moves[image].double().numpy())
        xy = moved @ rotation[image].double().numpy()[:, :2] * (2 * np.pi / (box * PIXEL_ANGSTROM))
        strengths = density.numpy().astype(np.complex128)
        exact = finufft.nufft2d1(
            xy[:, 1].copy(), xy[:, 0].copy(), strengths, (box, box), isign=-1, eps=1e-9
        )
        exact = np.fft.ifftshift(exact)[:, : box // 2 + 1]
        # the spline's aliasing error grows towards Nyquist; it is relative to the whole, which lies
        # at low frequency
        error = np.abs(images[image] - exact)
        scale = np.sqrt(np.mean(np.abs(exact[(shell > 0) & (shell < box // 2)]) ** 2))
        assert error[shell < box // 4].max() < 5e-3 * scale
        assert error[shell < box // 2].max() < 0.1 * scale
        assert np.all(images[image][shell >= box // 2] == 0)


@pytest.mark.parametrize("box", [BOX, BOX + 1])
def test_backprojection_is_the_transpose_of_projection(box: int, rotation: torch.Tensor) -> None:
    support = blob(box)
    projector = DeformedProjector(support)
    views = projector.views(rotation, displacement(support, len(rotation)))
    density = torch.rand(support.n_voxels)
    images = centred_rfft2(torch.rand(len(rotation), box, box))
    there = image_product(projector.project(density, views), images)
    back = float(density.double() @ projector.backproject(images, views))
    assert back == pytest.approx(there, rel=1e-5)


def test_threads_share_the_work_and_change_nothing(
    support: Support, rotation: torch.Tensor
) -> None:
    projector = DeformedProjector(support)
    views = projector.views(rotation, displacement(support, len(rotation)))
    density, images = (
        torch.rand(support.n_voxels),
        centred_rfft2(torch.rand(len(rotation), BOX, BOX)),
    )
    alone = projector.project(density, views), projector.backproject(images, views)
    torch.set_num_threads(2)
    try:
        shared = projector.project(density, views), projector.backproject(images, views)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone[0], shared[0])
    assert torch.equal(alone[1], shared[1])


def test_without_motion_every_voxel_is_seen_where_it_projects(support: Support) -> None:
    # a single voxel, seen along z without rotation, is a wave whose phase tells where it is
    projector = DeformedProjector(support)
    views = projector.views(torch.eye(3)[None], torch.zeros(1, support.n_nodes, 3))
    number = support.n_voxels // 3
    density = torch.zeros(support.n_voxels)
    density[number] = 1.0
    image = projector.project(density, views)[0]
    x, y, _ = (support.voxels_px[number] - BOX // 2) / BOX
    expected = np.exp(-2j * np.pi * (2 * x + 3 * y))
    assert abs(complex(image[3, 2]) - expected) < 1e-3


def test_normal_operator_is_symmetric_and_not_negative(
    support: Support, rotation: torch.Tensor
) -> None:
    projector = DeformedProjector(support)
    views = projector.views(rotation, displacement(support, len(rotation)))
    precision = centred_rfft2(torch.rand(len(rotation), BOX, BOX)).abs() ** 2
    one, two = torch.randn(2, support.n_voxels)
    left = float(two.double() @ projector.normal(one, precision, views))
    right = float(one.double() @ projector.normal(two, precision, views))
    assert left == pytest.approx(right, rel=1e-4)
    assert float(one.double() @ projector.normal(one, precision, views)) > 0
