"""Slices of a Fourier volume: reading is the transpose of inserting, components are slices times
factors."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.kernels.slices import insert_components, insert_slices, sample_slices

SIZE, HALF, SCALE = 16, 9, np.float32(2.0)


@pytest.fixture
def geometry() -> tuple[np.ndarray, ...]:
    """Poses of three images, and coefficients that stay two grid points inside the volume."""
    draw = np.random.default_rng(0)
    rotation = np.linalg.qr(draw.normal(size=(3, 3, 3)))[0].astype(np.float32)
    ky, kx = np.meshgrid(np.arange(-2, 3), np.arange(3), indexing="ij")
    inside = (kx > 0) | (ky > 0)
    return rotation, kx[inside].astype(np.float32), ky[inside].astype(np.float32)


def hermitian(values: np.ndarray) -> np.ndarray:
    """A half volume of a real map, real and imaginary parts last."""
    spectrum = np.fft.rfftn(values)
    return np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32)


def test_reading_is_the_transpose_of_inserting(geometry: tuple[np.ndarray, ...]) -> None:
    rotation, kx, ky = geometry
    draw = np.random.default_rng(1)
    volume = hermitian(draw.normal(size=(SIZE,) * 3))
    slices = np.empty((3, len(kx), 2), dtype=np.float32)
    sample_slices(slices, volume, rotation, kx, ky, SCALE)
    data = (draw.normal(size=(3, len(kx))) + 1j * draw.normal(size=(3, len(kx)))).astype("c8")
    inserted = np.zeros((SIZE, SIZE, HALF, 3), dtype=np.float32)
    ones = np.ones(len(kx), dtype=np.float32)
    insert_slices(inserted, data, np.abs(data), rotation, kx, ky, ones, SCALE)
    read = (data.conj() * slices.view(np.complex64)[..., 0]).real.sum()
    # each coefficient was written once, its mate not: the half volume is all there is
    assert (inserted[..., :2] * volume).sum() == pytest.approx(read, rel=1e-4)


def test_precisions_add_up_to_what_was_inserted(geometry: tuple[np.ndarray, ...]) -> None:
    rotation, kx, ky = geometry
    precision = np.random.default_rng(2).random((3, len(kx))).astype(np.float32)
    weight = np.linspace(0.5, 1.0, len(kx), dtype=np.float32)
    volume = np.zeros((SIZE, SIZE, HALF, 3), dtype=np.float32)
    insert_slices(volume, precision + 0j, precision, rotation, kx, ky, weight, SCALE)
    assert volume[..., 2].sum() == pytest.approx(float((weight * precision).sum()), rel=1e-5)


def test_components_are_slices_times_factors(geometry: tuple[np.ndarray, ...]) -> None:
    rotation, kx, ky = geometry
    draw = np.random.default_rng(3)
    data = (draw.normal(size=(3, len(kx))) + 1j * draw.normal(size=(3, len(kx)))).astype("c8")
    precision = draw.random((3, len(kx))).astype(np.float32)
    factors = draw.normal(size=(3, 2)).astype(np.float32)
    ones = np.ones(len(kx), dtype=np.float32)
    together = np.zeros((SIZE, SIZE, HALF, 7), dtype=np.float32)
    insert_components(together, data, precision, factors, rotation, kx, ky, ones, SCALE)
    for column in range(2):
        alone = np.zeros((SIZE, SIZE, HALF, 3), dtype=np.float32)
        factor = factors[:, [column]]
        insert_slices(alone, factor * data, factor**2 * precision, rotation, kx, ky, ones, SCALE)
        np.testing.assert_allclose(
            together[..., 2 * column : 2 * column + 2], alone[..., :2], atol=1e-4
        )
        np.testing.assert_allclose(together[..., (4, 6)[column]], alone[..., 2], atol=1e-4)
