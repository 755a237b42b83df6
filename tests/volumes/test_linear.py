"""Volumes linear in coefficients: kernels against simpler sums, slices against formulas, known
families of maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kinesphere.fourier import centred_rfft2
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.reconstruction.fourier_volume import FourierVolume, SlicePlan
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.images import WeightedBatch, WeightedImages
from kinesphere.volumes.linear import (
    ComponentSums,
    GainTerms,
    LowBand,
    LowBatch,
    SliceSampler,
    VolumeComponents,
    gain_terms,
    reliability,
)

BOX = 24
WIDTH_PX = 1.8


def _blob_slices(
    centres: np.ndarray, weights: np.ndarray, rotation: np.ndarray, plan: SlicePlan
) -> np.ndarray:
    """(b, m) transforms of the projections of Gaussians of unit integral, by formula."""
    k = np.stack([plan.kx, plan.ky], axis=1) / BOX
    seen = np.einsum("pi,bij->bpj", centres, rotation)[..., :2]  # x_image = Rᵀ x
    envelope = np.exp(-2 * np.pi**2 * WIDTH_PX**2 * (k**2).sum(1))
    phase = np.exp(-2j * np.pi * np.einsum("bpj,mj->bpm", seen, k))
    found: np.ndarray = (weights[:, None] * phase).sum(1) * envelope
    return found.astype(np.complex64)


def _blob_map(centres: np.ndarray, weights: np.ndarray) -> np.ndarray:
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    total = np.zeros((BOX,) * 3)
    for centre, weight in zip(centres, weights, strict=True):
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        total += weight * np.exp(-squared / (2 * WIDTH_PX**2)) / (2 * np.pi * WIDTH_PX**2) ** 1.5
    return total.astype(np.float32)


STILL = np.array([[0.0, 0.0, 0.0], [4.0, -2.0, 1.0], [-3.0, 3.0, -2.0]])
MOVING = np.array([[2.0, 4.0, -3.0], [-4.0, -2.0, 3.0]])
AMOUNT = np.array([1.0, -1.0])


@pytest.fixture(scope="module")
def rotations() -> np.ndarray:
    return Rotation.random(900, random_state=1).as_matrix().astype(np.float32)


def _family(rotations: np.ndarray, coefficients: np.ndarray, plan: SlicePlan) -> LowBatch:
    """Images without noise of C + c V, each coefficient with precision 2."""
    data = _blob_slices(STILL, np.ones(3), rotations, plan)
    data = data + coefficients.astype(np.float32) * _blob_slices(MOVING, AMOUNT, rotations, plan)
    return LowBatch(2.0 * data, np.full(data.shape, 2.0, dtype=np.float32), rotations)


def test_compiled_sums_are_those_of_simple_insertions() -> None:
    rotation = torch.from_numpy(Rotation.random(5, random_state=3).as_matrix()).float()
    data = centred_rfft2(torch.randn(5, BOX, BOX, generator=torch.Generator().manual_seed(0)))
    precision, c = data.abs(), torch.tensor([0.5, -1.0, 2.0, 0.3, -0.7])
    plan = SlicePlan.of_box(BOX)
    batch = LowBatch(
        *(v.flatten(1)[:, torch.from_numpy(plan.index)].numpy() for v in (data, precision)),
        rotation.numpy(),
    )
    sums = ComponentSums(BOX, 1)
    sums.insert(batch, plan, c.numpy()[:, None])
    for factor, weight, parts in (
        (torch.ones(5), torch.ones(5), (0, 1, 4)),
        (c, c**2, (2, 3, 6)),
        (c, c, (2, 3, 5)),
    ):
        simple = FourierVolume(BOX)
        simple.insert(data * factor[:, None, None], precision * weight[:, None, None], rotation)
        for number, part in enumerate(parts):
            np.testing.assert_allclose(sums.sums[..., part], simple.sums[..., number], atol=2e-4)


def test_slices_of_a_map_are_the_transforms_of_its_projections(rotations: np.ndarray) -> None:
    plan = SlicePlan.of_box(BOX)
    nothing = np.zeros((BOX,) * 3, dtype=np.float32)
    components = VolumeComponents(
        _blob_map(STILL, np.ones(3)), nothing, _blob_map(MOVING, AMOUNT)[None]
    )
    found = SliceSampler(components).slices(rotations[:20], plan)
    for number, expected in (
        (0, _blob_slices(STILL, np.ones(3), rotations[:20], plan)),
        (2, _blob_slices(MOVING, AMOUNT, rotations[:20], plan)),
    ):
        assert np.abs(found[..., number] - expected).max() < 5e-3
    assert np.abs(found[..., 1]).max() == 0.0


@pytest.mark.parametrize("mean", [0.0, 0.8])
def test_a_linear_family_is_found_again_whatever_the_mean_of_its_coefficients(
    rotations: np.ndarray, mean: float
) -> None:
    plan = SlicePlan.of_box(BOX)
    c = np.random.default_rng(2).normal(mean, 1.0, (len(rotations), 1))
    sums = ComponentSums(BOX, 1)
    sums.insert(_family(rotations, c, plan), plan, c)
    found = sums.solve()
    expected = _blob_map(MOVING, AMOUNT)
    curve = fourier_shell_correlation(found.varying[0], expected)
    assert curve[1 : BOX // 3].min() > 0.99
    slope = (found.varying[0] * expected).sum() / (expected**2).sum()
    assert slope == pytest.approx(1.0, abs=0.03)
    for state in (-1.0, 1.0):
        shown = found.consensus + found.offset + state * found.varying[0]
        truth = _blob_map(STILL, np.ones(3)) + state * expected
        assert np.abs(shown - truth).max() < 0.05 * truth.max()


def test_two_parts_of_the_images_add_up(rotations: np.ndarray) -> None:
    plan = SlicePlan.of_box(BOX)
    c = np.random.default_rng(3).normal(size=(len(rotations), 1))
    whole, parts = ComponentSums(BOX, 1), [ComponentSums(BOX, 1), ComponentSums(BOX, 1)]
    whole.insert(_family(rotations, c, plan), plan, c)
    for number, part in enumerate(parts):
        part.insert(_family(rotations[number::2], c[number::2], plan), plan, c[number::2])
    np.testing.assert_allclose((parts[0] + parts[1]).sums, whole.sums, atol=1e-2)
    assert reliability(*(part.solve() for part in parts))[:, 1:6].min() > 0.9


class _Images(WeightedImages):
    """Random data on a larger box."""

    def __init__(self) -> None:
        self.grid = RenderGrid(BOX + 8, 2.0)
        shape = (6, BOX + 8, BOX + 8)
        generator = torch.Generator().manual_seed(5)
        self.data = centred_rfft2(torch.randn(shape, generator=generator))
        self.precision = centred_rfft2(torch.randn(shape, generator=generator)).abs()
        self.rotation = torch.from_numpy(Rotation.random(6, random_state=4).as_matrix()).float()

    def batch(self, rows: np.ndarray) -> WeightedBatch:
        index = torch.from_numpy(rows)
        return WeightedBatch(self.data[index], self.precision[index], self.rotation[index])


def test_gain_is_the_difference_of_two_log_likelihoods() -> None:
    images = _Images()
    low = LowBand(images, BOX)
    draw = np.random.default_rng(0)
    maps = draw.normal(size=(4, BOX, BOX, BOX)).astype(np.float32)
    components = VolumeComponents(maps[0], maps[1], maps[2:])
    rows, c = np.array([4, 1, 5]), draw.normal(size=(3, 2))
    found = gain_terms(low, rows, components).gain(c)
    slices = SliceSampler(components).slices(images.rotation[rows].numpy(), low.plan)
    batch = low.batch(rows)
    twice = np.where(low.plan.kx == 0, 1.0, 2.0)  # each coefficient and its mate

    def log_likelihood(model: np.ndarray) -> np.ndarray:  # up to the square of the data
        values = (model.conj() * batch.data).real - 0.5 * batch.precision * np.abs(model) ** 2
        total: np.ndarray = (twice * values).sum(1)
        return total

    b = np.concatenate([np.ones((3, 1)), c], axis=1)
    with_motion = slices[..., 0] + np.einsum("bmf,bf->bm", slices[..., 1:], b)
    np.testing.assert_allclose(
        found, log_likelihood(with_motion) - log_likelihood(slices[..., 0]), rtol=2e-3
    )


def test_the_low_band_keeps_the_coefficients_of_the_images() -> None:
    images = _Images()
    low = LowBand(images, BOX)
    batch = low.batch(np.arange(6))
    at = {
        (int(x), int(y)): i for i, (x, y) in enumerate(zip(low.plan.kx, low.plan.ky, strict=True))
    }
    for kx, ky in ((0, 3), (5, -7), (11, 0), (0, 0)):
        np.testing.assert_array_equal(batch.data[:, at[kx, ky]], images.data[:, ky, kx].numpy())
    assert max(np.hypot(*key) for key in at) < BOX / 2


def test_gain_without_coefficients_is_that_of_the_offset() -> None:
    terms = GainTerms(np.array([[3.0, 1.0]]), np.array([[[2.0, 0.0], [0.0, 4.0]]]))
    assert terms.gain(np.array([[0.0]]))[0] == pytest.approx(2.0)
    assert terms.gain(np.array([[0.25]]))[0] == pytest.approx(2.0 + 0.25 - 0.125)
