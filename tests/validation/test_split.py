"""Halves of the coefficients share nothing, Friedel mates included; random phases keep amplitudes
and symmetry."""

from __future__ import annotations

import pytest
import torch

from kinesphere.fourier import centred_rfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.validation.split import randomise_phases, split_coefficients

GRID = RenderGrid(24, 2.0)
N = 300


@pytest.fixture
def band() -> FourierBand:
    return FourierBand.of_grid(GRID)


def test_each_coefficient_is_in_one_half_with_its_mate(band: FourierBand) -> None:
    in_a = split_coefficients(band, N, torch.Generator().manual_seed(1))
    plane = {
        (r, c): i
        for i, (r, c) in enumerate(zip(band.row.tolist(), band.column.tolist(), strict=True))
    }
    on_axis = [row for row, column in plane if column == 0 and row > 0]
    assert len(on_axis) == band.n_shells
    for row in on_axis:
        assert torch.equal(in_a[:, plane[row, 0]], in_a[:, plane[-row, 0]])
    assert in_a.float().mean() == pytest.approx(0.5, abs=0.01)
    assert float(in_a.float().mean(0).std()) < 0.05  # drawn anew for each image
    assert torch.equal(in_a, split_coefficients(band, N, torch.Generator().manual_seed(1)))
    assert not torch.equal(in_a, split_coefficients(band, N, torch.Generator().manual_seed(2)))


def test_noise_of_the_halves_is_independent(band: FourierBand) -> None:
    """A half's share of an image that is noise says nothing about the other half's: products of
    pixels cancel."""
    noise = torch.randn(N, GRID.box, GRID.box, generator=torch.Generator().manual_seed(3))
    data = band.select(centred_rfft2(noise))
    in_a = split_coefficients(band, N, torch.Generator().manual_seed(4))
    template = torch.randn(len(band), generator=torch.Generator().manual_seed(5))
    a, b = ((data.real * template * side).sum(1) for side in (in_a, ~in_a))
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 3.0 / N**0.5


def test_random_phases_keep_power_and_symmetry(band: FourierBand) -> None:
    images = torch.randn(8, GRID.box, GRID.box, generator=torch.Generator().manual_seed(6))
    data = band.select(centred_rfft2(images))
    changed = randomise_phases(data, band, torch.Generator().manual_seed(7), None)
    assert torch.allclose(changed.abs(), data.abs(), rtol=1e-4, atol=1e-4)
    correlation = (changed * data.conj()).sum().abs() / (data.abs() ** 2).sum()
    assert float(correlation) < 0.05
    on_axis = (band.column == 0) & (band.row > 0)
    for index in torch.nonzero(on_axis).flatten().tolist():
        mate = int(torch.nonzero((band.column == 0) & (band.row == -band.row[index])).item())
        assert torch.allclose(changed[:, mate], changed[:, index].conj(), atol=1e-4)


def test_phases_below_the_resolution_stay(band: FourierBand) -> None:
    data = torch.randn(2, len(band), dtype=torch.complex64)
    changed = randomise_phases(
        data, band, torch.Generator().manual_seed(8), resolution_angstrom=12.0
    )
    kept = band.shell <= 4  # 48 Å across, 12 Å
    assert torch.allclose(changed[:, kept], data[:, kept])
    assert not torch.isclose(changed[:, ~kept], data[:, ~kept]).any()
