"""The configuration of a run: what the command line, run.yaml and the documentation are made
from.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Literal, SupportsFloat

from kinesphere.errors import InputError
from kinesphere.inference.objective import ObjectiveName
from kinesphere.motion.field import FieldConfig
from kinesphere.motion.options import BeadPlacement
from kinesphere.motion.segments import SegmentsConfig
from kinesphere.observations.prepare import ImagesConfig
from kinesphere.training.schedule import FieldScheduleConfig, PaceConfig, ScheduleConfig

_LARGEST_VALIDATION_FRACTION = 0.5


@dataclass(frozen=True)
class LatentsConfig:
    """How the conformation of each image is inferred."""

    inference: Literal["marginal", "vae"] = "marginal"
    """`marginal`: exact posterior over nodes of the latent space, no encoder. `vae`: the papers'
    amortised encoder."""
    latent_dim: int = 2
    """Number of latent dimensions."""
    n_nodes: int | None = None
    """Nodes of the latent space (`marginal`); none: 16, 32, 96 or 192 for 1, 2, 3 or more
    dimensions."""
    n_draws: int = 4
    """Nodes drawn from each image's posterior for a gradient step (`marginal`)."""
    look_every: int = 4
    """Passes between two comparisons of an image with all nodes (`marginal`), once a model has
    taken shape; in the passes between, nodes are drawn from what was found then, and weighed by
    what they explain now."""
    encoder_shells: int = 15
    """Resolution shells the encoder sees (`vae`)."""


@dataclass(frozen=True)
class RestraintsConfig:
    """Priors on structures: what the images do not resolve should not tear the chain."""

    continuity_weight: float = 0.5
    """Weight of the penalty on stretched or compressed bonds between residues, nats/Å²; 0 as in the
    paper."""
    clash_weight: float = 0.0
    """Weight of the penalty on residues closer than 4 Å, nats/Å²."""


@dataclass(frozen=True)
class FieldRestraintsConfig:
    """Priors on the displacement field (eqs. 12 to 14)."""

    distance_weight: float = 0.05
    """Weight of the penalties on changed and on short distances between neighbouring Gaussians, in
    nats/Å² for each Gaussian; 0: none. At an SNR of 0.05 an image says a few nats about a moving
    domain: against 0.5 it never sets off.
    """
    gradient_ratio: float | None = None
    """Set that weight anew in every pass so that its gradient has this ratio to the data term's;
    the paper: 0.9. Not the default: before anything moves the penalty has hardly a gradient, the
    weight soars, and nothing ever will."""


@dataclass(frozen=True)
class FittingConfig:
    """What every fit of a motion model to images needs to know."""

    latents: LatentsConfig = dataclass_field(default_factory=LatentsConfig)
    images: ImagesConfig = dataclass_field(default_factory=ImagesConfig)
    objective: ObjectiveName = "gaussian"
    """Data term: `gaussian` (noise and scale per resolution shell), `profiled` (amplitude of each
    image free) or `correlation` (the cryoSPHERE paper's eq. 7)."""
    batch_size: int | None = None
    """Images a step; none: 64, or 128, 256 or 512 where a pass over the images still takes 250
    steps."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    threads: int | None = None
    """CPU threads; none: all."""


@dataclass(frozen=True)
class TrainingConfig(FittingConfig):
    """How a segments model is fitted."""

    schedule: ScheduleConfig = dataclass_field(default_factory=ScheduleConfig)
    restraints: RestraintsConfig = dataclass_field(default_factory=RestraintsConfig)
    halves: bool = False
    """Train two models on two half sets that share nothing but the nominal model."""

    @property
    def validation_fraction(self) -> float:
        """All images train."""
        return 0.0


@dataclass(frozen=True)
class FieldTrainingConfig(FittingConfig):
    """How a field model is fitted: always two, on two half sets."""

    schedule: FieldScheduleConfig = dataclass_field(default_factory=FieldScheduleConfig)
    restraints: FieldRestraintsConfig = dataclass_field(default_factory=FieldRestraintsConfig)
    validation_fraction: float = 0.1
    """Part of each half set that trains no motion: on it the errors of the two models are
    measured."""

    @property
    def halves(self) -> bool:
        """There are always two models."""
        return True


@dataclass(frozen=True)
class SegmentsRunConfig:
    """A cryoSPHERE run."""

    particles: Path
    """RELION STAR or cryoSPARC .cs file of particles with poses and CTF."""
    model: Path
    """Nominal atomic model S0 (PDB or mmCIF), fitted into the consensus map."""
    map: Path | None = None
    """Consensus map; sets the frame of the model. None: the map RELION would make, its corner at
    zero."""
    passthrough: Path | None = None
    """cryoSPARC passthrough file."""
    beads: BeadPlacement = "centroid"
    """Gaussians: one a residue at its centroid or its central atom (`centre`), or one an atom."""
    bead_width_angstrom: float = 2.0
    """Standard deviation of the Gaussians (the paper's σ)."""
    ranges: tuple[str, ...] = ()
    """Residue ranges that no segment may cross, as A:1-120; the rest of each chain is a range of
    its own."""
    ignore_misfit: bool = False
    """Go on although map or images show the model elsewhere, as they may where it is a small part
    of the molecule."""
    segments: SegmentsConfig = dataclass_field(default_factory=SegmentsConfig)
    training: TrainingConfig = dataclass_field(default_factory=TrainingConfig)

    def require_sensible(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises
        ------
        InputError
            Naming the option.
        """
        training = self.training
        require_positive(
            bead_width_angstrom=self.bead_width_angstrom,
            n_segments=self.segments.n_segments,
            segmentation_learning_rate=training.schedule.segmentation_learning_rate,
        )
        require_not_negative(
            continuity_weight=training.restraints.continuity_weight,
            clash_weight=training.restraints.clash_weight,
        )
        _require_sensible_fit(training, training.schedule)


@dataclass(frozen=True)
class FieldRunConfig:
    """A DynaMight run."""

    particles: Path
    """RELION STAR or cryoSPARC .cs file of particles with poses and CTF."""
    map: Path
    """Consensus map of these particles; its low-resolution part is where the pseudo-atoms start
    from."""
    passthrough: Path | None = None
    """cryoSPARC passthrough file."""
    model: Path | None = None
    """Atomic model, fitted into the map, to make the pseudo-atoms from by coarse-graining; none:
    from the map."""
    regularise_with_model: bool = False
    """Keep distances along the bonds of --model instead of between neighbours. Biases the result
    towards the model."""
    n_gaussians: int | None = None
    """Number of pseudo-atoms; none: one for every 110 Å³ of density, fewer where the images resolve
    less."""
    n_classes: int = 1
    """Number of widths of the pseudo-atoms (N_c of eq. 8): more where local resolution varies
    much."""
    threshold: float | None = None
    """Density above which the map is molecule, after filtering; none: from the noise outside the
    molecule."""
    map_resolution_angstrom: float = 10.0
    """Resolution the map is filtered to first: nothing finer is shared by the half sets."""
    ignore_misfit: bool = False
    """Go on although the images show the molecule elsewhere than the map."""
    field: FieldConfig = dataclass_field(default_factory=FieldConfig)
    training: FieldTrainingConfig = dataclass_field(default_factory=FieldTrainingConfig)

    def require_sensible(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises
        ------
        InputError
            Naming the option.
        """
        training = self.training
        require_positive(
            n_gaussians=self.n_gaussians,
            n_classes=self.n_classes,
            map_resolution_angstrom=self.map_resolution_angstrom,
            n_parts=self.field.n_parts,
            decoder_width=self.field.decoder_width,
            n_frequencies=self.field.n_frequencies,
            reference_learning_rate=training.schedule.reference_learning_rate,
            gradient_ratio=training.restraints.gradient_ratio,
        )
        require_not_negative(
            fold_weight=self.field.fold_weight,
            distance_weight=training.restraints.distance_weight,
            reference_epochs=training.schedule.reference_epochs,
            fix_networks_every=training.schedule.fix_networks_every,
            fix_networks_for=training.schedule.fix_networks_for,
            replace_reference_every=training.schedule.replace_reference_every,
            largest_falls=training.schedule.largest_falls,
            validation_fraction=training.validation_fraction,
        )
        if training.validation_fraction > _LARGEST_VALIDATION_FRACTION:
            problem = f"{training.validation_fraction} leaves too few images to learn from"
            raise InputError(
                "--validation-fraction", problem, f"Give at most {_LARGEST_VALIDATION_FRACTION}"
            )
        if self.regularise_with_model and self.model is None:
            raise InputError(
                "--regularise-with-model",
                "needs the bonds of a model",
                "Give --model too, or neither",
            )
        _require_sensible_fit(training, training.schedule)


def _require_sensible_fit(training: FittingConfig, pace: PaceConfig) -> None:
    require_positive(
        latent_dim=training.latents.latent_dim,
        n_nodes=training.latents.n_nodes,
        n_draws=training.latents.n_draws,
        look_every=training.latents.look_every,
        encoder_shells=training.latents.encoder_shells,
        resolution_angstrom=training.images.resolution_angstrom,
        epochs=pace.epochs,
        learning_rate=pace.learning_rate,
        patience=pace.patience,
        batch_size=training.batch_size,
    )
    require_not_negative(
        coarse_epochs=pace.coarse_epochs,
        coarse_fraction=pace.coarse_fraction,
        memory_gigabytes=training.images.memory_gigabytes,
    )


def require_positive(**values: SupportsFloat | None) -> None:
    """Refuse options, named as their fields, that are given and not above zero.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    for name, value in values.items():
        if value is not None and not float(value) > 0:
            raise InputError(_option(name), f"{value} cannot be used", "Give a number above zero")


def require_not_negative(**values: SupportsFloat) -> None:
    """Refuse options, named as their fields, that are below zero or no number.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    for name, value in values.items():
        if not float(value) >= 0:
            raise InputError(_option(name), f"{value} cannot be used", "Give zero or more")


def _option(field_name: str) -> str:
    return f"--{field_name.replace('_', '-')}"
