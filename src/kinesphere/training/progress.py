"""Where training is, and what has been added up since the epoch, or the estimate of the noise,
began.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from kinesphere.imaging.noise import ShellStatistics
from kinesphere.ranks import Ranks

_COUNTS = ("images", "since_update")
_SUMS = ("log_likelihood", "divergence", "pairs")


def _zeros() -> dict[str, float]:
    return dict.fromkeys(_COUNTS + _SUMS, 0.0)


@dataclass
class Progress:
    """Where training is: everything that is neither a parameter nor the optimiser's.

    All ranks agree, but for three of the totals: each rank adds up its own images, and the total is
    the sum.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    bad_steps: int = 0
    coarse_log_likelihoods: list[float] = field(default_factory=list)
    log_likelihoods: list[float] = field(default_factory=list)
    dimension_gains: list[tuple[float, float]] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=_zeros)
    history: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False

    def count(self, n_images: int) -> None:
        """Count the images of a batch, of all ranks."""
        for name in _COUNTS:
            self.totals[name] += n_images

    def add(self, **sums: float) -> None:
        """Add what this rank's images of a batch come to."""
        for name, value in sums.items():
            self.totals[name] += value

    def begin_epoch(self) -> None:
        """Go on to the next epoch."""
        self.epoch = self.epoch + 1
        self.batch = 0
        self.totals = _zeros()

    def add_up(self, ranks: Ranks) -> None:
        """Make the totals those of all ranks."""
        totals = torch.tensor([self.totals[name] for name in _SUMS], dtype=torch.float64)
        ranks.sum_([totals])
        self.totals.update(zip(_SUMS, totals.tolist(), strict=True))

    def forget_sums(self) -> None:
        """Leave the totals to another rank."""
        self.totals.update(dict.fromkeys(_SUMS, 0.0))

    def summary(
        self,
        *,
        shells: float,
        model_divergence: float,
        learning_rate: float,
        seconds: float,
        n_images: int,
    ) -> dict[str, float]:
        """Sum up an epoch for `metrics.csv`, once the totals are those of all ranks.

        Parameters
        ----------
        shells
            Resolution shells used.
        model_divergence
            KL divergence of the motion model's own parameters, in nats.
        learning_rate
            Of the networks, at the end.
        seconds, n_images
            How long it took, and for how many images.
        """
        images = max(self.totals["images"], 1.0)
        return {
            "epoch": float(self.epoch + 1),
            "step": float(self.step),
            "shells": shells,
            "log_likelihood": self.totals["log_likelihood"] / images,
            "divergence": self.totals["divergence"] / images,
            "model_divergence": model_divergence,
            "pairs_per_image": self.totals["pairs"] / images,
            "learning_rate": learning_rate,
            "seconds": seconds,
            "images_per_second": n_images / max(seconds, 1e-9),
        }


def hand_over_sums(progress: Progress, statistics: ShellStatistics, ranks: Ranks) -> None:
    """Give what the ranks have added up to the first; the others go on from zero, and the sum over
    ranks stays.
    """
    progress.add_up(ranks)
    ranks.sum_(statistics.sums)
    if not ranks.is_first:
        progress.forget_sums()
        statistics.clear()
