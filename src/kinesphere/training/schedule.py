"""When training does what: resolution stages, learning rate and warm-up as functions of
progress.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

PASSES_OF_AN_ENCODER = 4
_BATCH = 64  # images a step that learning rates are for
_LARGEST_BATCH = 512
_STEPS_A_PASS = 250
_FEWEST_SHELLS = 6
_REPLACED_AT_LATEST = 0.6  # of a run: the rest is left to mend what moving the reference has bent


@dataclass(frozen=True)
class PaceConfig:
    """How long to train, and how resolution and learning rate change on the way."""

    epochs: int | None = None
    """Passes over the images; none: enough for 32,000 images, at least 5 and at most 24 passes;
    with an encoder, which learns slower, four times as many."""
    coarse_epochs: int = 2
    """First passes at low resolution: cheap, and without the local minima of high resolution."""
    coarse_fraction: float = 0.4
    """Part of the resolution shells used during those."""
    learning_rate: float = 1e-3
    """Largest learning rate of the networks (Adam) with 64 images a step or fewer; as all rates, it
    grows with the square root of more."""
    final_learning_rate_fraction: float = 0.05
    """Where the cosine decay of the learning rates ends, as a fraction."""
    warm_up_steps: int = 20
    """Steps over which learning rates rise linearly at the start."""
    divergence_warm_up_epochs: int = 0
    """Epochs over which the KL term of the latents rises from 0 to 1 (VAE)."""
    patience: int = 4
    """Stop early when the log-likelihood has not risen for this many passes at full resolution."""
    tolerance: float = 0.02
    """Smallest rise in log-likelihood an image, in nats, that counts."""

    @property
    def structural_learning_rate(self) -> float:
        """Largest learning rate of what a motion model says of the molecule itself."""
        return self.learning_rate

    def networks_learn(self, epoch: int) -> bool:  # noqa: ARG002
        """Tell whether anything but the molecule itself learns in an epoch."""
        return True

    def replaces_reference(self, epoch: int) -> bool:  # noqa: ARG002
        """Tell whether the reference is replaced by a predicted state before an epoch."""
        return False

    def has_fallen_too_often(self, log_likelihoods: list[float]) -> bool:  # noqa: ARG002
        """Tell whether so many epochs made the fit worse that training ends."""
        return False


@dataclass(frozen=True)
class ScheduleConfig(PaceConfig):
    """The pace of a segments run."""

    segmentation_learning_rate: float = 1e-2
    """Largest learning rate of the segments' boundaries."""

    @property
    def structural_learning_rate(self) -> float:
        """Learning rate of the segments' boundaries."""
        return self.segmentation_learning_rate


@dataclass(frozen=True)
class FieldScheduleConfig(PaceConfig):
    """The pace of a field run, with the DynaMight paper's rules; zero switches a rule off.

    The paper trains an encoder for hundreds of epochs. On the exact marginal likelihood some ten
    passes do, so its rules that act every tenth and every 30th epoch act early here, or not at all
    within most runs. Its two rules against a reference that drifts out of the distribution of
    states have less to do as well: the field vanishes at one latent position, whose state the
    reference therefore is.
    """

    learning_rate: float = 3e-3
    """Largest learning rate of the networks (Adam). A field starts from no motion at all, and has
    to set off."""
    reference_learning_rate: float = 0.06
    """Largest step of a pseudo-atom's reference position, in Å (Adam)."""
    reference_epochs: int = 1
    """First passes in which only the pseudo-atoms learn."""
    fix_networks_every: int = 30
    """After every so many passes the networks are fixed for a few."""
    fix_networks_for: int = 5
    """Passes for which they then are fixed."""
    replace_reference_every: int = 10
    """Before every so many passes, the predicted state nearest to the consensus replaces the
    reference positions; once in a run of fewer passes. It brings the references of both half sets
    to one state without showing either to the other, as the paper's mask about one half's Gaussians
    does."""
    largest_falls: int = 40
    """Stop when the log-likelihood has fallen this many times (k of the paper)."""

    @property
    def structural_learning_rate(self) -> float:
        """Learning rate of the reference positions."""
        return self.reference_learning_rate

    def networks_learn(self, epoch: int) -> bool:
        """Tell whether the networks learn: not in the first passes, and not in five after every
        30.
        """
        if epoch < self.reference_epochs:
            return False
        if self.fix_networks_every == 0:
            return True
        period = self.fix_networks_every + self.fix_networks_for
        return (epoch - self.reference_epochs) % period < self.fix_networks_every

    def replaces_reference(self, epoch: int) -> bool:
        """Tell whether this is a tenth pass in which the networks learn."""
        every = self.replace_reference_every
        if self.epochs is not None:
            every = min(every, math.ceil(_REPLACED_AT_LATEST * self.epochs))
        return every > 0 and epoch > 0 and epoch % every == 0 and self.networks_learn(epoch)

    def has_fallen_too_often(self, log_likelihoods: list[float]) -> bool:
        """Tell whether the log-likelihood has fallen k times."""
        falls = sum(later < earlier for earlier, later in pairwise(log_likelihoods))
        return 0 < self.largest_falls <= falls


def default_epochs(n_images: int, *, encoder: bool = False) -> int:
    """Return the passes over the images unless the user says: enough for 32,000 images, 5 to 24.

    An encoder has to learn what the exact posterior knows, and takes `PASSES_OF_AN_ENCODER` times
    as many.
    """
    passes = min(max(round(32_000 / max(n_images, 1)), 5), 24)
    return PASSES_OF_AN_ENCODER * passes if encoder else passes


def default_batch_size(n_images: int) -> int:
    """Return the images a step unless the user says: as many as leave 250 steps a pass, a power of
    two, 64 to 512.

    What a step costs whatever its batch is shared by more images then. With learning rates that
    grow as the square root of the batch, as the noise of a mean falls, a model learns as much from
    a pass (measured: docs/inference.md).
    """
    size = _BATCH
    while 2 * size <= _LARGEST_BATCH and n_images >= 2 * size * _STEPS_A_PASS:
        size *= 2
    return size


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

    def __init__(self, config: PaceConfig, n_images: int, n_shells: int, batch_size: int) -> None:
        self.config, self.n_shells_full = config, n_shells
        self.epochs = config.epochs or default_epochs(n_images)
        self.steps_per_epoch = math.ceil(n_images / batch_size)
        self.batch_size, self._rate_of_batch = batch_size, math.sqrt(max(batch_size / _BATCH, 1.0))

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
