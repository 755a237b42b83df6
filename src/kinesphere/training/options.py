"""Options of training: how long, on what, and how resolution and learning rates change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kinesphere.config import Advanced, require_not_negative, require_positive
from kinesphere.errors import InputError
from kinesphere.inference.options import InferenceName, LatentsConfig, ObjectiveName
from kinesphere.observations.options import ImagesConfig

PASSES_OF_AN_ENCODER = 4
REFERENCE_BATCH = 64
"""Images a step that learning rates are for."""
_LARGEST_BATCH = 512
_COARSE_PASSES = 6
_STEPS_A_PASS = 250


@dataclass(frozen=True)
class ScheduleConfig:
    """How long to train, and how resolution and learning rate change on the way."""

    epochs: int | None = None
    """Passes over the images; none: enough for 32,000 images, at least 5 and at most 24 passes;
    with an encoder, which learns slower, four times as many."""
    coarse_epochs: Advanced[int] = 2
    """First passes at low resolution: cheap, and without the local minima of high resolution. With
    `--inference gaussian` they go on until the log-likelihood has settled instead."""
    coarse_fraction: Advanced[float] = 0.4
    """Part of the resolution shells used during those."""
    learning_rate: Advanced[float] = 1e-3
    """Largest learning rate of the networks (Adam) with 64 images a step or fewer; as all rates, it
    grows with the square root of more."""
    final_learning_rate_fraction: Advanced[float] = 0.05
    """Where the cosine decay of the learning rates ends, as a fraction."""
    warm_up_steps: Advanced[int] = 20
    """Steps over which learning rates rise linearly at the start."""
    divergence_warm_up_epochs: Advanced[int] = 0
    """Epochs over which the KL term of the latents rises from 0 to 1 (VAE)."""
    patience: Advanced[int] = 4
    """Stop early when the log-likelihood has not risen for this many passes at full resolution."""
    tolerance: Advanced[float] = 0.02
    """Smallest rise in log-likelihood an image, in nats, that counts."""
    settled_nats: Advanced[float] = 0.5
    """Rise in log-likelihood an image from one pass at low resolution to the next, in nats, below
    which full resolution begins (`--inference gaussian`)."""

    @property
    def structural_learning_rate(self) -> float:
        """Largest learning rate of what a motion model says of the molecule itself."""
        return self.learning_rate

    def networks_learn(self, epoch: int) -> bool:  # noqa: ARG002 - methods have rules of their own
        """Tell whether anything but the molecule itself learns in an epoch."""
        return True

    def replaces_reference(self, epoch: int) -> bool:  # noqa: ARG002
        """Tell whether the reference is replaced by a predicted state before an epoch."""
        return False

    def has_fallen_too_often(self, log_likelihoods: list[float]) -> bool:  # noqa: ARG002
        """Tell whether so many epochs made the fit worse that training ends."""
        return False


@dataclass(frozen=True)
class TrainingConfig:
    """How a motion model is fitted to images; a method adds what it alone knows of."""

    latents: LatentsConfig = field(default_factory=LatentsConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    objective: Advanced[ObjectiveName] = "gaussian"
    """Data term: `gaussian` (noise and scale per resolution shell), `profiled` (amplitude of each
    image free) or `correlation` (the cryoSPHERE paper's eq. 7)."""
    batch_size: Advanced[int | None] = None
    """Images a step; none: 64, or 128, 256 or 512 where a pass over the images still takes 250
    steps."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    threads: int | None = None
    """CPU threads; none: all."""

    @property
    def halves(self) -> bool:
        """Whether two models are trained, on two half sets."""
        return False

    @property
    def validation_fraction(self) -> float:
        """Part of each half set that trains no motion."""
        return 0.0

    def resolved(self, n_images: int) -> TrainingConfig:
        """Return the same options with numbers where the user left the choice to the program.

        Parameters
        ----------
        n_images
            Images each model is trained on.
        """
        inference = self.latents.inference
        epochs = self.schedule.epochs or default_epochs(n_images, inference)
        return replace(
            self,
            latents=self.latents.resolved(),
            schedule=replace(self.schedule, epochs=epochs),
            batch_size=self.batch_size or default_batch_size(n_images),
        )

    def require_sensible(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises
        ------
        InputError
            Naming the option.
        """
        if self.latents.inference == "gaussian" and self.objective != "gaussian":
            problem = "its steps are those of Gaussian noise, and the data term is not"
            remedy = "Take --inference marginal or vae, or --objective gaussian"
            raise InputError("--inference gaussian", problem, remedy)
        require_positive(
            latent_dim=self.latents.n_dimensions,
            n_nodes=self.latents.n_nodes,
            n_draws=self.latents.n_draws,
            look_every=self.latents.look_every,
            encoder_shells=self.latents.encoder_shells,
            resolution_angstrom=self.images.resolution_angstrom,
            epochs=self.schedule.epochs,
            learning_rate=self.schedule.learning_rate,
            patience=self.schedule.patience,
            batch_size=self.batch_size,
        )
        require_not_negative(
            coarse_epochs=self.schedule.coarse_epochs,
            coarse_fraction=self.schedule.coarse_fraction,
            memory_gigabytes=self.images.memory_gigabytes,
        )


def default_epochs(n_images: int, inference: InferenceName = "marginal") -> int:
    """Return the passes over the images unless the user says: enough for 32,000 images, 5 to 24.

    An encoder has to learn what the exact posterior knows, and takes `PASSES_OF_AN_ENCODER` times
    as many. Half of the passes of `gaussian` are at low resolution, at most, and it takes
    `_COARSE_PASSES` more.
    """
    passes = min(max(round(32_000 / max(n_images, 1)), 5), 24)
    if inference == "gaussian":
        return passes + _COARSE_PASSES
    return PASSES_OF_AN_ENCODER * passes if inference == "vae" else passes


def default_batch_size(n_images: int) -> int:
    """Return the images a step unless the user says: as many as leave 250 steps a pass, a power of
    two, 64 to 512.

    What a step costs whatever its batch is shared by more images then. With learning rates that
    grow as the square root of the batch, as the noise of a mean falls, a model learns as much from
    a pass (measured: docs/inference.md).
    """
    size = REFERENCE_BATCH
    while 2 * size <= _LARGEST_BATCH and n_images >= 2 * size * _STEPS_A_PASS:
        size *= 2
    return size
