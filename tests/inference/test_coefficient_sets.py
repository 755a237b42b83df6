"""Two sets of coefficients of each image: every one in a set, mates together, noise independent."""

from __future__ import annotations

import pytest
import torch

from helpers.toy import Toy
from kinesphere.fourier import centred_rfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.inference.coefficient_sets import masked, split_coefficients

GRID = RenderGrid(24, 2.0)
N = 400


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


def test_masked_coefficients_do_not_count(toy: Toy) -> None:
    trainer = toy.trainer()
    likelihood = trainer.likelihood(5)
    prepared = likelihood.prepare(toy.observations.batch(torch.arange(4)))
    side = split_coefficients(likelihood.forward.band, 4, torch.Generator().manual_seed(0))
    row = torch.arange(4)
    positions = toy.reference.points[None]

    def score(mask: torch.Tensor) -> torch.Tensor:
        found, _ = likelihood.pairs(masked(prepared, mask), positions, row, torch.zeros_like(row))
        return found

    whole, _ = likelihood.pairs(prepared, positions, row, torch.zeros_like(row))
    torch.testing.assert_close(score(side) + score(~side), whole, rtol=1e-4, atol=1e-2)
    assert float(score(torch.zeros_like(side)).abs().max()) == pytest.approx(0.0)
