"""When training does what: resolution, learning rate and warm-up as functions of progress."""

from __future__ import annotations

import math

from kinesphere.training.options import REFERENCE_BATCH, ScheduleConfig, default_epochs

_FEWEST_SHELLS = 6
_COARSE_RATE = 2.0  # the resolution is low, and so is the noise of a gradient


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
        self._n_epochs = config.epochs or default_epochs(n_images)
        self.first_full: int | None = min(config.coarse_epochs, self._n_epochs // 3)
        self.steps_per_epoch = math.ceil(n_images / batch_size)
        self.batch_size = batch_size
        self._rate_of_batch = math.sqrt(max(batch_size / REFERENCE_BATCH, 1.0))

    @property
    def epochs(self) -> int:
        """Passes over the images, at most."""
        return self._n_epochs

    def n_shells(self, epoch: int) -> int:
        """Resolution shells used in an epoch."""
        if self.first_full is not None and epoch >= self.first_full:
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
        return self._rate_of_batch * self._warm_up(step) * self._decay(step / total)

    def _warm_up(self, step: int) -> float:
        """Rise linearly to 1."""
        return min((step + 1) / max(self.config.warm_up_steps, 1), 1.0)

    def _decay(self, done: float) -> float:
        """Fall along a cosine from 1 to the final fraction."""
        floor = self.config.final_learning_rate_fraction
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(max(done, 0.0), 1.0)))

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

    def settle(self, log_likelihoods: list[float]) -> None:
        """Take notice of the log-likelihoods of the coarse passes so far."""


class SettlingSchedule(Schedule):
    """A schedule whose coarse stage goes on until the log-likelihood has settled, or for half of
    the passes.

    Motions that are found late are then found at low resolution, where a pass costs little and
    nothing lies in the way. The second half of the passes is at full resolution.
    """

    def __init__(
        self, config: ScheduleConfig, n_images: int, n_shells: int, batch_size: int
    ) -> None:
        super().__init__(config, n_images, n_shells, batch_size)
        self._most_coarse = self._n_epochs // 2
        self.first_full = None if self._most_coarse > 0 else 0

    @property
    def epochs(self) -> int:
        """See `Schedule.epochs`."""
        coarse = self._most_coarse if self.first_full is None else self.first_full
        return coarse + self._n_epochs - self._most_coarse

    def settle(self, log_likelihoods: list[float]) -> None:
        """See `Schedule.settle`."""
        count = len(log_likelihoods)
        if self.first_full is not None or count == 0:
            return
        settled = count > 1 and log_likelihoods[-1] < log_likelihoods[-2] + self.config.settled_nats
        if settled or count >= self._most_coarse:
            self.first_full = count

    def learning_rate_factor(self, step: int) -> float:
        """See `Schedule.learning_rate_factor`: steady in the coarse stage, then cosine decay."""
        if self.first_full is None:
            return self._rate_of_batch * _COARSE_RATE * self._warm_up(step)
        first = self.first_full * self.steps_per_epoch
        total = max(self.epochs * self.steps_per_epoch - first, 1)
        rate = self._rate_of_batch * _COARSE_RATE
        return rate * self._warm_up(step) * self._decay((step - first) / total)
