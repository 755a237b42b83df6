"""Where training is: sums of several ranks add up to those of one, and nothing is counted twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.imaging.noise import ShellStatistics
from kinesphere.ranks import ALONE, Ranks
from kinesphere.training.progress import Progress, hand_over_sums

BAND = FourierBand.of_grid(RenderGrid(16, 2.0))


class Told(Ranks):
    """A rank that is told what the others have."""

    def sum_(self, values: list[Tensor]) -> None:
        for value in values:
            value.add_(self.others.pop(0))


def told(rank: int, *others: Tensor) -> Told:
    """Make one of two ranks; the other has these values, in the order in which they are asked."""
    ranks = Told(rank, 2, rank, (0, 1))
    object.__setattr__(ranks, "others", list(others))
    return ranks


def test_images_and_sums_are_those_of_the_epoch() -> None:
    progress = Progress()
    for n_images in (64, 32):
        progress.count(n_images)
        progress.add(log_likelihood=-2.0 * n_images, pairs=4.0 * n_images)
    assert progress.totals == {
        "images": 96,
        "since_update": 96,
        "log_likelihood": -192.0,
        "divergence": 0.0,
        "pairs": 384.0,
    }
    progress.batch = 2
    progress.begin_epoch()
    assert (progress.epoch, progress.batch) == (1, 0)
    assert set(progress.totals.values()) == {0.0}


def test_sums_of_two_ranks_are_added_and_counts_are_not() -> None:
    progress = Progress()
    progress.count(96)  # of all ranks
    progress.add(log_likelihood=-10.0, divergence=1.0, pairs=5.0)
    progress.add_up(told(0, torch.tensor([-20.0, 2.0, 7.0])))
    assert progress.totals == {
        "images": 96,
        "since_update": 96,
        "log_likelihood": -30.0,
        "divergence": 3.0,
        "pairs": 12.0,
    }


@pytest.mark.parametrize(("rank", "kept"), [(0, 1.0), (1, 0.0)])
def test_what_ranks_have_added_up_goes_to_the_first(rank: int, kept: float) -> None:
    progress, statistics = Progress(), ShellStatistics(BAND, 1)
    progress.add(log_likelihood=-10.0)
    others = [torch.full_like(value, 3.0) for value in statistics.sums]
    hand_over_sums(progress, statistics, told(rank, torch.tensor([-20.0, 0.0, 0.0]), *others))
    assert progress.totals["log_likelihood"] == -30.0 * kept
    for value in statistics.sums:
        assert torch.equal(value, torch.full_like(value, 3.0 * kept))


def test_an_epoch_is_summed_up_an_image() -> None:
    progress = Progress(epoch=2, step=40)
    progress.count(200)
    progress.add(log_likelihood=-500.0, divergence=50.0, pairs=800.0)
    found = progress.summary(
        shells=9.0, model_divergence=1.5, learning_rate=1e-3, seconds=4.0, n_images=200
    )
    assert found == {
        "epoch": 3.0,
        "step": 40.0,
        "shells": 9.0,
        "log_likelihood": -2.5,
        "divergence": 0.25,
        "model_divergence": 1.5,
        "pairs_per_image": 4.0,
        "learning_rate": 1e-3,
        "seconds": 4.0,
        "images_per_second": 50.0,
    }


def test_one_rank_alone_keeps_its_sums() -> None:
    progress, statistics = Progress(), ShellStatistics(BAND, 1)
    progress.add(pairs=5.0)
    hand_over_sums(progress, statistics, ALONE)
    assert progress.totals["pairs"] == 5.0
