"""The configuration of a run: what the command line, run.yaml and the documentation are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kinesphere.errors import InputError
from kinesphere.inference.objective import ObjectiveName
from kinesphere.inference.observe import ImagesConfig
from kinesphere.inference.schedule import ScheduleConfig
from kinesphere.motion.reference import BeadPlacement
from kinesphere.motion.segments import SegmentsConfig


@dataclass(frozen=True)
class LatentsConfig:
    """How the conformation of each image is inferred."""

    inference: Literal["marginal", "vae"] = "marginal"
    """`marginal`: exact posterior over nodes of the latent space, no encoder. `vae`: the papers' amortised encoder."""
    latent_dim: int = 2
    """Number of latent dimensions."""
    n_nodes: int | None = None
    """Nodes of the latent space (`marginal`); none: 16, 32, 96 or 192 for 1, 2, 3 or more dimensions."""
    n_draws: int = 4
    """Nodes drawn from each image's posterior for a gradient step (`marginal`)."""
    encoder_shells: int = 15
    """Resolution shells the encoder sees (`vae`)."""


@dataclass(frozen=True)
class RestraintsConfig:
    """Priors on structures: what the images do not resolve should not tear the chain."""

    continuity_weight: float = 0.5
    """Weight of the penalty on stretched or compressed bonds between residues, nats/Å²; 0 as in the paper."""
    clash_weight: float = 0.0
    """Weight of the penalty on residues closer than 4 Å, nats/Å²."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything about fitting a motion model that does not depend on which one it is."""

    latents: LatentsConfig = field(default_factory=LatentsConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    restraints: RestraintsConfig = field(default_factory=RestraintsConfig)
    objective: ObjectiveName = "gaussian"
    """Data term: `gaussian` (noise and scale per resolution shell), `profiled` (amplitude of each image free) or
    `correlation` (the cryoSPHERE paper's eq. 7)."""
    halves: bool = False
    """Train two models on two half sets that share nothing but the nominal model."""
    batch_size: int = 64
    """Images a step."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    threads: int | None = None
    """CPU threads; none: all."""


@dataclass(frozen=True)
class SegmentsRunConfig:
    """A cryoSPHERE run."""

    particles: Path
    """RELION STAR or cryoSPARC .cs file of particles with poses and CTF."""
    model: Path
    """Nominal atomic model S0 (PDB or mmCIF), fitted into the consensus map."""
    map: Path | None = None
    """Consensus map; sets the frame of the model. None: the map RELION would make, its corner at zero."""
    passthrough: Path | None = None
    """cryoSPARC passthrough file."""
    beads: BeadPlacement = "centroid"
    """Gaussians: one a residue at its centroid or its central atom (`centre`), or one an atom."""
    bead_width_angstrom: float = 2.0
    """Standard deviation of the Gaussians (the paper's σ)."""
    ranges: tuple[str, ...] = ()
    """Residue ranges that no segment may cross, as A:1-120; the rest of each chain is a range of its own."""
    ignore_misfit: bool = False
    """Go on although map or images show the model elsewhere, as they may where it is a small part of the molecule."""
    segments: SegmentsConfig = field(default_factory=SegmentsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def require_sensible(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises
        ------
        InputError
            Naming the option.
        """
        training = self.training
        positive: dict[str, float | None] = {
            "bead-width-angstrom": self.bead_width_angstrom,
            "n-segments": self.segments.n_segments,
            "latent-dim": training.latents.latent_dim,
            "n-nodes": training.latents.n_nodes,
            "n-draws": training.latents.n_draws,
            "encoder-shells": training.latents.encoder_shells,
            "resolution-angstrom": training.images.resolution_angstrom,
            "epochs": training.schedule.epochs,
            "learning-rate": training.schedule.learning_rate,
            "segmentation-learning-rate": training.schedule.segmentation_learning_rate,
            "patience": training.schedule.patience,
            "batch-size": training.batch_size,
        }
        not_negative: dict[str, float] = {
            "continuity-weight": training.restraints.continuity_weight,
            "clash-weight": training.restraints.clash_weight,
            "coarse-epochs": training.schedule.coarse_epochs,
            "coarse-fraction": training.schedule.coarse_fraction,
            "memory-gigabytes": training.images.memory_gigabytes,
        }
        for name, value in positive.items():
            if value is not None and not value > 0:
                raise InputError(f"--{name}", f"{value} cannot be used", "Give a number above zero")
        for name, value in not_negative.items():
            if not value >= 0:
                raise InputError(f"--{name}", f"{value} cannot be used", "Give zero or more")
