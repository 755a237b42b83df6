"""When training does what: resolution, learning rate and warm-up as functions of progress."""

from __future__ import annotations

import math

from kinesphere.training.options import REFERENCE_BATCH, ScheduleConfig, default_epochs

_FEWEST_SHELLS = 6


class Schedule:
    """The schedule of one run, as pure functions of how far it is.

    Parameters
    ----------
    config
        What the user chose.
    n_images
        Number of images.
    n_shells
        Number of resolution shells of the run.
    batch_size
        Images a step.
    """

    def __init__(
        self, config: ScheduleConfig, n_images: int, n_shells: int, batch_size: int
    ) -> None:
        self.config = config
        self.n_shells_full = n_shells
        self.epochs = config.epochs or default_epochs(n_images)
        self.steps_per_epoch = math.ceil(n_images / batch_size)
        self.batch_size = batch_size
        self._rate_of_batch = math.sqrt(max(batch_size / REFERENCE_BATCH, 1.0))

    def n_shells(self, epoch: int) -> int:
        """Resolution shells used in an epoch."""
        if epoch >= min(self.config.coarse_epochs, self.epochs // 3):
            return self.n_shells_full
        return min(
            max(round(self.config.coarse_fraction * self.n_shells_full), _FEWEST_SHELLS),
            self.n_shells_full,
        )

    def is_full_resolution(self, epoch: int) -> bool:
        """Tell whether an epoch uses all shells."""
        return self.n_shells(epoch) == self.n_shells_full

    def changes_much(self, epoch: int) -> bool:
        """Tell whether what earlier epochs found of single images holds no longer in an epoch."""
        if epoch <= 1 or not self.is_full_resolution(epoch - 1):
            return True
        config = self.config
        return config.replaces_reference(epoch) or config.networks_learn(
            epoch
        ) != config.networks_learn(epoch - 1)

    def learning_rate_factor(self, step: int) -> float:
        """Factor on the learning rates at a step: linear warm-up, then cosine decay, for the size
        of the batch.
        """
        total = max(self.epochs * self.steps_per_epoch, 1)
        warm = min((step + 1) / max(self.config.warm_up_steps, 1), 1.0)
        floor = self.config.final_learning_rate_fraction
        return (
            self._rate_of_batch
            * warm
            * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(step / total, 1.0))))
        )

    def divergence_weight(self, step: int) -> float:
        """Weight of the latents' KL term at a step."""
        warm = self.config.divergence_warm_up_epochs * self.steps_per_epoch
        return 1.0 if warm == 0 else min(step / warm, 1.0)

    def should_stop(self, log_likelihoods: list[float]) -> bool:
        """Tell whether the epochs at full resolution so far have stopped improving."""
        if self.config.has_fallen_too_often(log_likelihoods):
            return True
        recent = self.config.patience
        if len(log_likelihoods) <= recent:
            return False
        return (
            max(log_likelihoods[-recent:]) < max(log_likelihoods[:-recent]) + self.config.tolerance
        )
