"""FSC, its correction and its crossing: against a formula on the full transform, and maps of known
correlation."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.reconstruction.fsc import (
    crossing_angstrom,
    fourier_shell_correlation,
    half_map_fsc,
    local_resolution,
    mean_fsc,
    randomise_phases,
)
from kinesphere.reconstruction.masks import low_pass, sphere_mask

BOX, PIXEL_ANGSTROM = 32, 2.0


def independent_fsc(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The definition, on the full transforms, shell by shell."""
    one, two = np.fft.fftn(first), np.fft.fftn(second)
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(BOX, 1 / BOX),) * 3, indexing="ij"))
    shell = np.rint(np.sqrt((k**2).sum(0)))
    curve = []
    for number in range(BOX // 2):
        a, b = one[shell == number], two[shell == number]
        curve.append(
            (a * b.conj()).sum().real / np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum())
        )
    return np.array(curve)


def signal(rng: np.random.Generator, resolution_px: float) -> np.ndarray:
    return (
        10.0
        * low_pass(rng.standard_normal((BOX,) * 3), resolution_px)
        * sphere_mask(BOX, 0.7 * BOX / 2, 4.0)
    )


def test_fsc_is_its_definition() -> None:
    rng = np.random.default_rng(1)
    common = rng.standard_normal((BOX,) * 3)
    first, second = (common + rng.standard_normal((BOX,) * 3) for _ in range(2))
    assert np.allclose(
        fourier_shell_correlation(first, second), independent_fsc(first, second), atol=1e-9
    )


def test_fsc_of_signal_and_noise_is_the_signal_fraction() -> None:
    rng = np.random.default_rng(2)
    common = 2.0 * rng.standard_normal((BOX,) * 3)
    first, second = (common + rng.standard_normal((BOX,) * 3) for _ in range(2))
    assert fourier_shell_correlation(first, second)[6:] == pytest.approx(np.full(10, 0.8), abs=0.05)


def test_fsc_does_not_see_the_scale_of_a_shell() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, BOX, BOX, BOX))
    filtered = low_pass(first, 3.0)
    assert np.allclose(
        fourier_shell_correlation(first, second)[:4],
        fourier_shell_correlation(filtered, second)[:4],
        atol=0.02,
    )
    assert np.allclose(fourier_shell_correlation(first, -7.0 * first)[1:], -1.0)


def test_crossing_is_interpolated() -> None:
    curve = np.array([1.0, 1.0, 0.8, 0.243, 0.043, 0.9, 0.0, 0.0])
    assert crossing_angstrom(curve, 64.0) == pytest.approx(
        64.0 / 3.5
    )  # halfway between shells 3 and 4
    assert crossing_angstrom(np.ones(8), 64.0) == 8.0
    assert crossing_angstrom(np.zeros(8), 64.0) == np.inf


def test_mean_leaves_out_shell_zero_and_the_last_tenth() -> None:
    curve = np.full(20, 0.5)
    curve[0] = curve[19] = 9.0
    assert mean_fsc(curve) == pytest.approx(0.5)
    assert mean_fsc(np.arange(20.0)) == pytest.approx(np.mean(np.arange(1, 19)))


def test_randomised_phases_keep_amplitudes_and_lose_correlation() -> None:
    rng = np.random.default_rng(4)
    density = rng.standard_normal((BOX,) * 3)
    random = randomise_phases(density, 8, rng)
    before, after = np.abs(np.fft.rfftn(density)), np.abs(np.fft.rfftn(random))
    inner = np.s_[1:-1, 1:-1, 1:-1]  # planes that are their own mates are only real on average
    assert np.allclose(before[inner], after[inner], rtol=1e-3, atol=1.0)
    curve = fourier_shell_correlation(density, random)
    assert curve[1:8] == pytest.approx(np.ones(7), abs=1e-6)
    assert np.abs(curve[9:]).max() < 0.15


def test_correction_takes_away_what_a_sharp_mask_adds() -> None:
    # two maps that share nothing beyond shell 6, in one tight mask: the masked FSC is not zero
    # there, the corrected is
    rng = np.random.default_rng(5)
    common = signal(rng, 6.0)
    noise = [rng.standard_normal((BOX,) * 3) * common.std() * 0.6 for _ in range(2)]
    mask = sphere_mask(BOX, 6.0, 1.0)
    curves = half_map_fsc(common + noise[0], common + noise[1], mask, PIXEL_ANGSTROM)
    beyond = slice(curves.randomised_from + 3, BOX // 2)
    assert curves.masked[beyond].mean() > 0.05
    assert abs(curves.corrected[beyond].mean()) < 0.6 * curves.masked[beyond].mean()
    assert np.array_equal(
        curves.corrected[: curves.randomised_from + 2], curves.masked[: curves.randomised_from + 2]
    )


def test_correction_leaves_true_signal() -> None:
    rng = np.random.default_rng(6)
    common = signal(rng, 2.0)
    halves = [common + 0.2 * common.std() * rng.standard_normal((BOX,) * 3) for _ in range(2)]
    curves = half_map_fsc(halves[0], halves[1], sphere_mask(BOX, 13.0, 4.0), PIXEL_ANGSTROM)
    assert curves.corrected[1:10].min() > 0.8
    assert np.all(curves.corrected <= curves.masked + 0.02)


def test_local_resolution_is_finer_where_the_maps_agree_further() -> None:
    rng = np.random.default_rng(7)
    x = np.arange(BOX) - BOX // 2
    left = np.broadcast_to(x < 0, (BOX,) * 3)
    fine, coarse = signal(rng, 1.0), signal(rng, 14.0)
    common = np.where(left, fine, coarse * fine.std() / coarse.std())
    halves = [common + 0.5 * common.std() * rng.standard_normal((BOX,) * 3) for _ in range(2)]
    mask = sphere_mask(BOX, 14.0, 2.0)
    found = local_resolution(halves[0], halves[1], mask, PIXEL_ANGSTROM)
    inside = mask > 0.5
    far = np.abs(np.broadcast_to(x, (BOX,) * 3)) > 8
    assert np.median(found[inside & left & far]) < 0.9 * np.median(found[inside & ~left & far])
    assert np.all(found[mask == 0] == 0)
    assert found[inside].min() >= 2 * PIXEL_ANGSTROM
