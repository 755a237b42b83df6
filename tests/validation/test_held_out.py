"""What predicts one half of the coefficients knows nothing of that half: the halves share nothing,
Friedel mates included.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.small_set import simulate_set
from kinesphere import load
from kinesphere.cli.main import main
from kinesphere.fourier import centred_rfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.inference.coefficient_sets import split_coefficients
from kinesphere.runs.run import Run
from kinesphere.validation.held_out import (
    _fitted_score,
    _infer,
    held_out_gain,
    judge,
    randomise_phases,
)

GRID = RenderGrid(24, 2.0)
N = 300


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has hardly begun to learn."""
    folder = tmp_path_factory.mktemp("run")
    simulate_set(folder / "set", 120, seed=4)
    inputs = [str(folder / "set" / "particles.star"), "--model", str(folder / "set" / "model.cif")]
    quick = ["--epochs", "2", "--latent-dim", "1", "--n-nodes", "4", "--threads", "1"]
    assert main(["segments", *inputs, "--out", str(folder / "run"), *quick]) == 0
    return load(folder / "run")


def test_a_latent_depends_on_its_own_side_only(run: Run) -> None:
    rows = np.arange(30)
    observations = run.observations(rows)
    side = split_coefficients(observations.band, len(rows), torch.Generator().manual_seed(0))
    noise = (
        torch.randn(observations.data.shape, dtype=torch.complex64) * observations.data.abs().mean()
    )
    found = []
    for changed in (torch.zeros_like(side), ~side, side):
        altered = replace(
            observations, data=torch.where(changed, observations.data + noise, observations.data)
        )
        found.append(_infer(judge(run, altered, run.latents.half[rows])[0], side, lambda _: None))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_the_gain_follows_from_the_seed(run: Run) -> None:
    rows = np.arange(40)
    judged = judge(run, run.observations(rows), run.latents.half[rows])
    first, again, other = (held_out_gain(judged, seed, n_permutations=5) for seed in (0, 0, 1))
    assert np.array_equal(first.per_image, again.per_image)
    assert np.array_equal(first.permuted, again.permuted)
    assert first.permuted.shape == (5,)
    assert not np.allclose(first.per_image, other.per_image)
    assert first.standard_error == pytest.approx(np.std(first.per_image, ddof=1) / 40**0.5)


def test_the_scale_of_a_shell_is_fitted_and_never_negative() -> None:
    """Σ_i a·c_i − ½a²p_i is largest at a = Σc / Σp; a prediction that is anticorrelated is worth
    nothing, not less."""
    products = torch.tensor(
        [[[4.0, -1.0], [2.0, 1.0]], [[2.0, -3.0], [4.0, 1.0]]], dtype=torch.float64
    )
    score = _fitted_score(products, torch.zeros(2, dtype=torch.int64))
    assert score.tolist() == pytest.approx([4.0 - 0.5 * 2.0, 2.0 - 0.5 * 4.0])
    apart = _fitted_score(products, torch.tensor([0, 1]))  # of two optics groups, each has its own
    assert apart.tolist() == pytest.approx([4.0**2 / 2.0 / 2.0, 2.0**2 / 4.0 / 2.0])


@pytest.fixture
def band() -> FourierBand:
    return FourierBand.of_grid(GRID)


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
