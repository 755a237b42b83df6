"""The Fourier band: coarse is a prefix of fine, sums equal sums over pixels, coefficients are where
they say."""

from __future__ import annotations

import pytest
import torch

from kinesphere.fourier import centred_rfft2, half_plane_weights, radial_average, radial_shell_index
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid

GRID = RenderGrid(32, 1.5)


def transforms(n: int = 3) -> torch.Tensor:
    return centred_rfft2(torch.randn(n, 32, 32))


def test_coarse_band_is_a_prefix_of_the_fine_one() -> None:
    fine = FourierBand.of_grid(GRID)
    coarse = fine.coarser(7)
    direct = FourierBand.of_grid(GRID, 7)
    assert coarse.n_shells == 7
    assert len(coarse) < len(fine)
    for name in ("shell", "row", "column", "multiplicity"):
        torch.testing.assert_close(getattr(coarse, name), getattr(direct, name))
    image = transforms()
    torch.testing.assert_close(coarse.select(image), fine.select(image)[:, : len(coarse)])
    assert len(fine.coarser_to(len(coarse))) == len(coarse)
    assert fine.coarser_to(len(fine)) is fine


def test_band_holds_shell_one_to_the_last_below_nyquist() -> None:
    band = FourierBand.of_grid(GRID)
    shell = radial_shell_index(32)
    assert int(band.shell.min()) == 1
    assert band.n_shells == 15
    assert len(band) == int(((shell >= 1) & (shell <= 15)).sum())
    assert bool((band.shell[1:] >= band.shell[:-1]).all())


def test_frequencies_are_those_of_the_coefficients() -> None:
    """A plane wave of one coefficient's frequency has all its power in that coefficient."""
    band = FourierBand.of_grid(GRID, 6)
    pixel = torch.arange(32) - 16
    sx, sy = band.frequencies()
    for i in (0, 5, len(band) - 1):
        phase = (
            2
            * torch.pi
            * GRID.pixel_size_angstrom
            * (sx[i] * pixel[None, :] + sy[i] * pixel[:, None])
        )
        coefficients = band.select(centred_rfft2(torch.cos(phase)))
        others = torch.arange(len(band)) != i
        mirrored = (band.row == -band.row[i]) & (
            band.column == -band.column[i]
        )  # a cosine is both ±k on column 0
        assert abs(coefficients[i]) > 0.4 * 32**2
        assert coefficients[others & ~mirrored].abs().max() < 1e-3 * 32**2


def test_sums_over_the_band_are_sums_over_pixels() -> None:
    band = FourierBand.of_grid(GRID)
    image = transforms(2)
    inside = torch.zeros(32, 17, dtype=torch.bool).flatten()
    inside[band.flat_index(32)] = True
    filtered = image * inside.reshape(32, 17)
    pixels = torch.fft.irfft2(filtered, s=(32, 32))
    coefficients = band.select(image)
    torch.testing.assert_close(
        (band.multiplicity * coefficients.abs() ** 2).sum(-1) / 32**2, (pixels**2).sum((-2, -1))
    )


def test_shell_sums_are_radial_averages_times_counts() -> None:
    band = FourierBand.of_grid(GRID)
    power = transforms().abs() ** 2
    counts = band.sum_by_shell(torch.ones(len(band)))
    found = band.sum_by_shell(band.select(power))
    torch.testing.assert_close(found[:, 1:] / counts[1:], radial_average(power, 32)[:, 1:16])
    assert bool((found[:, 0] == 0).all())
    assert (
        float(counts.sum())
        == float((half_plane_weights(32) * (radial_shell_index(32) < 16)).sum()) - 1.0
    )


@pytest.mark.parametrize("n_shells", [4, 9, 15])
def test_smallest_grid_holds_the_band_at_the_same_frequencies(n_shells: int) -> None:
    """Cropping an image in Fourier space leaves the band's coefficients what they are."""
    band = FourierBand.of_grid(GRID, n_shells)
    small = band.smallest_grid()
    assert small.box * small.pixel_size_angstrom == pytest.approx(32 * 1.5)
    assert small.box == 2 * (n_shells + 1)
    image = transforms()
    half = small.box // 2
    cropped = torch.cat([image[:, :half], image[:, 32 - half :]], 1)[..., : half + 1]
    torch.testing.assert_close(band.select(cropped), band.select(image))
