"""Inserting slices: against the slow reference, projection's transpose, and a known map."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from kinesphere.fourier import centred_rfft2
from kinesphere.kernels import bspline
from kinesphere.reconstruction.fourier_volume import (
    PADDING,
    FourierVolume,
    SlicePlan,
    apodisation_of_box,
    crop_centre,
    deconvolve,
    homogeneous_filter,
    pad_centre,
    shell_mean,
    shell_of_volume,
    symmetrise_plane,
)
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.masks import low_pass, sphere_mask
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.support import Support

BOX = 16


def insert_into_full_volume(
    data: torch.Tensor, precision: torch.Tensor, rotation: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of data and of precision, (2 box, 2 box, 2 box) each, from slices of the full plane."""
    size, plan = PADDING * BOX, SlicePlan.of_box(BOX)
    sums = torch.zeros(size**3, dtype=torch.complex128), torch.zeros(size**3, dtype=torch.float64)
    k = torch.from_numpy(np.stack([plan.kx, plan.ky], 1)).double()
    mate_weight = torch.from_numpy(plan.weight)
    for image in range(len(data)):
        for sign in (1.0, -1.0):
            place = sign * PADDING * k @ rotation[image, :, :2].double().T  # (m, 3) xyz
            low = torch.floor(place)
            weight = bspline.weights(place - low)
            tap = torch.remainder(low.long()[..., None] + torch.arange(-1, 3), size)
            z, y, x = tap[:, 2, :, None, None], tap[:, 1, None, :, None], tap[:, 0, None, None]
            index = ((z * size + y) * size + x).flatten()
            spline = torch.einsum("mz,my,mx->mzyx", weight[:, 2], weight[:, 1], weight[:, 0])
            values = data[image].flatten()[plan.index] * mate_weight
            values = values if sign > 0 else values.conj()
            known = precision[image].flatten()[plan.index] * mate_weight
            sums[0].index_add_(0, index, (values[:, None, None, None] * spline).flatten())
            sums[1].index_add_(0, index, (known[:, None, None, None] * spline).flatten())
    return sums[0].reshape(size, size, size), sums[1].reshape(size, size, size)


def test_insertion_agrees_with_that_of_full_planes_into_a_full_volume(
    rotation: torch.Tensor,
) -> None:
    data = centred_rfft2(torch.randn(len(rotation), BOX, BOX))
    precision = centred_rfft2(torch.randn(len(rotation), BOX, BOX)).abs()
    volume = FourierVolume(BOX)
    volume.insert(data, precision, rotation)
    expected, sampling = insert_into_full_volume(data, precision, rotation)
    found = symmetrise_plane((volume.sums[..., 0] + 1j * volume.sums[..., 1]).astype(np.complex64))
    kept = (
        BOX - 1
    )  # at the volume's own Nyquist frequency, which no slice reaches, the half volume drops taps
    assert np.allclose(found[..., :kept], expected[..., :kept].numpy(), atol=1e-4)
    assert np.allclose(
        volume.sampling()[..., :kept] / volume.size**3, sampling[..., :kept].numpy(), atol=1e-4
    )


def test_inserted_slices_are_the_transpose_of_projection(rotation: torch.Tensor) -> None:
    # Fourier insertion and pulling images at voxels are two ways to the same sum
    inside = sphere_mask(BOX, 0.7 * BOX / 2, 1.0) > 0
    support = Support.of_voxels(inside, 2.0)
    projector = DeformedProjector(support)
    data = centred_rfft2(torch.randn(len(rotation), BOX, BOX))
    pulled = projector.backproject(
        data, projector.views(rotation, torch.zeros(len(rotation), support.n_nodes, 3))
    )
    volume = FourierVolume(BOX)
    volume.insert(data, data.abs(), rotation)
    inserted = crop_centre(volume.backprojection(), BOX) / apodisation_of_box(BOX)
    assert np.corrcoef(inserted[inside], pulled.numpy())[0, 1] > 0.999
    slope = (inserted[inside] * pulled.numpy()).sum() / (pulled.numpy() ** 2).sum()
    assert abs(slope - 1.0) < 0.01


def test_map_comes_back_from_its_projections() -> None:
    rng = np.random.default_rng(0)
    ball = sphere_mask(BOX, 0.75 * BOX / 2, 4.0)
    true = ball * (1.0 + low_pass(rng.standard_normal((BOX,) * 3), 3.0))
    support = Support.of_voxels(ball > 0, 2.0)
    density = torch.from_numpy(true[support.inside]).float()
    rotation = torch.from_numpy(Rotation.random(400, random_state=1).as_matrix()).float()
    projector = DeformedProjector(support)
    images = projector.project(
        density, projector.views(rotation, torch.zeros(400, support.n_nodes, 3))
    )
    volume = FourierVolume(BOX)
    volume.insert(images, torch.ones_like(images.real), rotation)
    found = deconvolve(volume.backprojection(), homogeneous_filter(volume.sampling(), BOX), BOX)
    assert fourier_shell_correlation(found * ball, true * ball)[: BOX // 2 - 1].min() > 0.99
    assert np.sqrt(np.mean(((found - true) * ball)[support.inside] ** 2)) < 0.1 * np.sqrt(
        np.mean(true[support.inside] ** 2)
    )


def test_padding_and_cropping_are_transposes() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.random((6, 6, 6)), rng.random((12, 12, 12))
    assert np.isclose((pad_centre(small, 12) * large).sum(), (small * crop_centre(large, 6)).sum())
    assert crop_centre(large, 6)[3, 3, 3] == large[0, 0, 0]


def test_shell_mean_counts_friedel_mates() -> None:
    rng = np.random.default_rng(0)
    spectrum = np.abs(np.fft.fftn(rng.random((8, 8, 8)))) ** 2
    radius = np.rint(
        np.linalg.norm(np.stack(np.meshgrid(*(np.fft.fftfreq(8, 1 / 8),) * 3)), axis=0)
    ).astype(int)
    expected = [spectrum[radius == shell].mean() for shell in range(4)]
    assert np.allclose(shell_mean(spectrum[..., :5], shell_of_volume(8, 8), 4), expected)


def test_filter_never_divides_by_nothing() -> None:
    sampling = np.zeros((8, 8, 5), np.float32)
    sampling[0, 0, 0] = 5.0
    gain = homogeneous_filter(sampling, 4)
    assert np.isfinite(gain).all()
