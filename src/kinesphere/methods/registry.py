"""The one place that chooses: from a configuration to the parts of a model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import ForwardModel
from kinesphere.inference.encoder import VariationalLatents
from kinesphere.inference.latents import LatentModel, MarginalLatents, default_n_nodes
from kinesphere.inference.objective import make_objective
from kinesphere.io.mrc import DensityMap
from kinesphere.io.structure import AtomicModel, read_model
from kinesphere.methods.config import (
    FieldRunConfig,
    FieldTrainingConfig,
    LatentsConfig,
    SegmentsRunConfig,
    TrainingConfig,
)
from kinesphere.methods.frame import find_centre, require_fit, require_inside
from kinesphere.methods.molecule import (
    MODEL_FILE,
    Subject,
    describe_shared,
    load_pseudo_atoms,
    model_bias,
    read_solid,
    subject_of_map,
)
from kinesphere.motion.base import Motion
from kinesphere.motion.field import FieldMotion, default_n_parts, make_field
from kinesphere.motion.pseudo_atoms import Solid
from kinesphere.motion.reference import Reference, build_reference
from kinesphere.motion.restraints import NeighbourRestraints, Restraint, Restraints
from kinesphere.motion.segments import SegmentsMotion, default_n_segments
from kinesphere.particles import ParticleSet
from kinesphere.training.schedule import default_batch_size, default_epochs
from kinesphere.training.trainer import Model

RunConfig = SegmentsRunConfig | FieldRunConfig
_Training = TypeVar("_Training", TrainingConfig, FieldTrainingConfig)
CONFIG_OF_METHOD: dict[str, type[SegmentsRunConfig | FieldRunConfig]] = {
    "segments": SegmentsRunConfig,
    "field": FieldRunConfig,
}

_TOTAL_INTENSITY = 100.0
_RANGE = re.compile(r"(?P<chain>[^:]+):(?P<first>-?\d+)-(?P<last>-?\d+)")


def name_of(config: RunConfig) -> str:
    """Name of the method that a configuration is for."""
    return next(name for name, kind in CONFIG_OF_METHOD.items() if type(config) is kind)


def resolve(config: RunConfig, n_points: int, n_images: int) -> RunConfig:
    """Put numbers where the user left the choice to the program, so that run.yaml says what was
    done.

    Parameters
    ----------
    config
        What the user asked for.
    n_points
        Residues or pseudo-atoms that move.
    n_images
        Images each model is trained on.
    """
    training = config.training
    n_nodes = training.latents.n_nodes or default_n_nodes(training.latents.latent_dim)
    encoder = training.latents.inference == "vae"
    epochs = training.schedule.epochs or default_epochs(n_images, encoder=encoder)
    latents = replace(training.latents, n_nodes=n_nodes)
    batch_size = training.batch_size or default_batch_size(n_images)
    if isinstance(config, FieldRunConfig):
        n_parts = config.field.n_parts or default_n_parts(n_points)
        field = replace(config.field, n_parts=n_parts)
        of_field = _resolved(config.training, latents, epochs, batch_size)
        return replace(config, n_gaussians=n_points, field=field, training=of_field)
    n_segments = config.segments.n_segments or default_n_segments(n_points)
    segments = replace(config.segments, n_segments=n_segments)
    of_segments = _resolved(config.training, latents, epochs, batch_size)
    return replace(config, segments=segments, training=of_segments)


def _resolved(
    training: _Training, latents: LatentsConfig, epochs: int, batch_size: int
) -> _Training:
    schedule = replace(training.schedule, epochs=epochs)
    return replace(training, latents=latents, schedule=schedule, batch_size=batch_size)


def read_subject(config: RunConfig, particles: ParticleSet) -> Subject:
    """Read what is to be moved, and check all that can be told about it without the images.

    Raises
    ------
    InputError
        If the run would fail or mean nothing.
    """
    if isinstance(config, FieldRunConfig):
        return subject_of_map(config, particles)
    model, centre = read_model(config.model), find_centre(particles, config.map)
    reference = make_reference(config, model, centre)
    first = particles.optics[int(particles.optics_group[0])]
    box_px = first.box_px or particles.images([0]).shape[-1]
    require_inside(reference, 0.5 * box_px * first.pixel_size_angstrom, config.model)
    if config.map is not None and not config.ignore_misfit:
        require_fit(reference, config.map, config.model)
    return Subject(model, reference, centre)


def load_subject(config: RunConfig, folder: Path, centre_angstrom: NDArray[np.float64]) -> Subject:
    """Read the subject of a run from its folder."""
    if isinstance(config, FieldRunConfig):
        return load_pseudo_atoms(folder, centre_angstrom)
    model = read_model(folder / MODEL_FILE)
    return Subject(model, make_reference(config, model, centre_angstrom), centre_angstrom)


def provenance_of(config: RunConfig) -> dict[str, object]:
    """Say what run.yaml has to record of a method beyond its configuration."""
    return describe_shared(config) if isinstance(config, FieldRunConfig) else {}


def warning_of(config: RunConfig) -> str | None:
    """Return what the user has to be warned of before the run."""
    return model_bias(config) if isinstance(config, FieldRunConfig) else None


def subject_file(config: RunConfig) -> Path:
    """Return the file that messages about the subject name."""
    return config.map if isinstance(config, FieldRunConfig) else config.model


def make_reference(
    config: SegmentsRunConfig, model: AtomicModel, centre_angstrom: NDArray[np.floating]
) -> Reference:
    """Prepare the nominal model of a segments run: y⁰ of the equation."""
    domains = _domains(model, config.ranges) if config.ranges else None
    source = str(config.model)
    return build_reference(
        model, centre_angstrom, source=source, placement=config.beads, domain_of_residue=domains
    )


def make_motion(config: RunConfig, reference: Reference) -> Motion:
    """Make the motion model of a run, its parameters drawn from the global random state."""
    latent_dim = config.training.latents.latent_dim
    if isinstance(config, FieldRunConfig):
        return make_field(config.field, reference.points, latent_dim)
    return SegmentsMotion(reference.points, reference.domains, latent_dim, config.segments)


def make_restraints(config: RunConfig, reference: Reference) -> Restraint:
    """Make the prior on structures of a run."""
    if isinstance(config, FieldRunConfig):
        return NeighbourRestraints(
            reference.points,
            weight=config.training.restraints.distance_weight,
            balance=config.training.restraints.gradient_ratio,
            edges=reference.edges if config.regularise_with_model else None,
        )
    weights = config.training.restraints
    return Restraints(
        reference.points,
        reference.chain,
        continuity=weights.continuity_weight,
        clash=weights.clash_weight,
    )


def consensus_of(config: RunConfig, source: Path) -> tuple[DensityMap, Solid]:
    """Read the consensus map of a run whose motion is defined in space, and where in it the
    molecule is.

    Raises
    ------
    InputError
        If the run moves residues, and says nothing about the space between.
    """
    if not isinstance(config, FieldRunConfig):
        raise InputError(
            source, "moves residues, not the space around them", "Give a run of kinesphere field"
        )
    return read_solid(config)


def memberships(motion: Motion) -> Float[Tensor, "p m"]:
    """Soft assignment of the reference points to parts that move together, rows adding up to 1."""
    if isinstance(motion, FieldMotion):
        return motion.memberships()
    if isinstance(motion, SegmentsMotion):
        return motion.segmentation.memberships()
    raise TypeError(f"{type(motion).__name__} has no parts")


def make_model(config: RunConfig, reference: Reference, band: FourierBand) -> Model:
    """Make all parts of a run's model."""
    return Model(
        motion=make_motion(config, reference),
        latents=make_latents(config.training.latents, band),
        reference=reference,
        objective=make_objective(config.training.objective),
        restraints=make_restraints(config, reference),
    )


def make_latents(config: LatentsConfig, band: FourierBand) -> LatentModel:
    """Make the way latents are inferred."""
    if config.inference == "vae":
        return VariationalLatents(config.latent_dim, band, config.encoder_shells)
    n_nodes = config.n_nodes or default_n_nodes(config.latent_dim)
    return MarginalLatents(
        config.latent_dim, n_nodes, n_draws=config.n_draws, look_every=config.look_every
    )


def make_forward(
    config: RunConfig, reference: Reference, band: FourierBand, device: torch.device
) -> ForwardModel:
    """Make the forward model; the beads' total intensity is arbitrary, since the signal's scale is
    estimated.
    """
    amplitude = (reference.amplitude / reference.amplitude.sum() * _TOTAL_INTENSITY).to(device)
    width = (
        reference.width_angstrom
        if isinstance(config, FieldRunConfig)
        else config.bead_width_angstrom
    )
    if width is None:
        raise TypeError("pseudo-atoms have widths")
    return ForwardModel(band.to(device), amplitude, width)


def _domains(model: AtomicModel, ranges: tuple[str, ...]) -> NDArray[np.int64]:
    """Label each residue with the user's range it is in; each piece of chain left over is a domain
    of its own.
    """
    label = np.array([f"chain {name}" for name in model.chain.tolist()], dtype=object)
    for text in ranges:
        match = _RANGE.fullmatch(text)
        if match is None:
            raise InputError(
                "--ranges",
                f"{text!r} is not a residue range",
                "Write chain and residues as A:1-120",
            )
        first, last = int(match["first"]), int(match["last"])
        inside = (
            (model.chain == match["chain"])
            & (model.residue_number >= first)
            & (model.residue_number <= last)
        )
        if not inside.any():
            raise InputError(
                "--ranges",
                f"{text!r} holds no residue of the model",
                "Check chain and residue numbers",
            )
        label[inside] = text
    starts = np.concatenate([[True], label[1:] != label[:-1]])
    return np.cumsum(starts) - 1


def method_of(folder: Path, document: dict[str, object]) -> str:
    """Read from run.yaml which method a run used."""
    method = document.get("method")
    if method not in CONFIG_OF_METHOD:
        known = ", ".join(CONFIG_OF_METHOD)
        raise InputError(
            folder / "run.yaml", f"names no known method ({method!r})", f"Known methods: {known}"
        )
    return str(method)
