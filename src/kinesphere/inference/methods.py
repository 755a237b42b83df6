"""The one place that chooses: from a configuration to the parts of a model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import ForwardModel
from kinesphere.inference.config import LatentsConfig, SegmentsRunConfig
from kinesphere.inference.encoder import VariationalLatents
from kinesphere.inference.latents import LatentModel, MarginalLatents, default_n_nodes
from kinesphere.inference.objective import make_objective
from kinesphere.inference.schedule import default_epochs
from kinesphere.inference.trainer import Model
from kinesphere.io.structure import AtomicModel
from kinesphere.motion.base import Motion
from kinesphere.motion.reference import Reference, build_reference
from kinesphere.motion.restraints import Restraints
from kinesphere.motion.segments import SegmentsMotion, default_n_segments

RunConfig = SegmentsRunConfig
CONFIG_OF_METHOD: dict[str, type[RunConfig]] = {"segments": SegmentsRunConfig}

_TOTAL_INTENSITY = 100.0
_RANGE = re.compile(r"(?P<chain>[^:]+):(?P<first>-?\d+)-(?P<last>-?\d+)")


def resolve(config: RunConfig, n_residues: int, n_images: int) -> RunConfig:
    """Put numbers where the user left the choice to the program, so that run.yaml says what was done.

    Parameters
    ----------
    config
        What the user asked for.
    n_residues
        Residues that move.
    n_images
        Images each model is trained on.
    """
    training = config.training
    n_nodes = training.latents.n_nodes or default_n_nodes(training.latents.latent_dim)
    epochs = training.schedule.epochs or default_epochs(n_images)
    n_segments = config.segments.n_segments or default_n_segments(n_residues)
    return replace(
        config,
        segments=replace(config.segments, n_segments=n_segments),
        training=replace(
            training,
            latents=replace(training.latents, n_nodes=n_nodes),
            schedule=replace(training.schedule, epochs=epochs),
        ),
    )


def make_reference(config: RunConfig, model: AtomicModel, centre_angstrom: NDArray[np.floating]) -> Reference:
    """Prepare the nominal model of a run: y⁰ of the equation."""
    domains = _domains(model, config.ranges) if config.ranges else None
    source = str(config.model)
    return build_reference(model, centre_angstrom, source=source, placement=config.beads, domain_of_residue=domains)


def make_motion(config: RunConfig, reference: Reference) -> Motion:
    """Make the motion model of a run, its parameters drawn from the global random state."""
    return SegmentsMotion(reference.points, reference.domains, config.training.latents.latent_dim, config.segments)


def make_model(config: RunConfig, reference: Reference, band: FourierBand) -> Model:
    """Make all parts of a run's model."""
    training = config.training
    restraints = Restraints(
        reference.points,
        reference.chain,
        continuity=training.restraints.continuity_weight,
        clash=training.restraints.clash_weight,
    )
    return Model(
        motion=make_motion(config, reference),
        latents=make_latents(training.latents, band),
        reference=reference,
        objective=make_objective(training.objective),
        restraints=restraints,
    )


def make_latents(config: LatentsConfig, band: FourierBand) -> LatentModel:
    """Make the way latents are inferred."""
    if config.inference == "vae":
        return VariationalLatents(config.latent_dim, band, config.encoder_shells)
    n_nodes = config.n_nodes or default_n_nodes(config.latent_dim)
    return MarginalLatents(config.latent_dim, n_nodes, n_draws=config.n_draws)


def make_forward(config: RunConfig, reference: Reference, band: FourierBand, device: torch.device) -> ForwardModel:
    """Make the forward model; the beads' total intensity is arbitrary, since the signal's scale is estimated."""
    amplitude = reference.amplitude / reference.amplitude.sum() * _TOTAL_INTENSITY
    return ForwardModel(band.to(device), amplitude.to(device), config.bead_width_angstrom)


def _domains(model: AtomicModel, ranges: tuple[str, ...]) -> NDArray[np.int64]:
    """Label each residue with the user's range it is in; each piece of chain left over is a domain of its own."""
    label = np.array([f"chain {name}" for name in model.chain.tolist()], dtype=object)
    for text in ranges:
        match = _RANGE.fullmatch(text)
        if match is None:
            raise InputError("--ranges", f"{text!r} is not a residue range", "Write chain and residues as A:1-120")
        first, last = int(match["first"]), int(match["last"])
        inside = (model.chain == match["chain"]) & (model.residue_number >= first) & (model.residue_number <= last)
        if not inside.any():
            raise InputError("--ranges", f"{text!r} holds no residue of the model", "Check chain and residue numbers")
        label[inside] = text
    starts = np.concatenate([[True], label[1:] != label[:-1]])
    return np.cumsum(starts) - 1


def method_of(folder: Path, document: dict[str, object]) -> str:
    """Read from run.yaml which method a run used."""
    method = document.get("method")
    if method not in CONFIG_OF_METHOD:
        known = ", ".join(CONFIG_OF_METHOD)
        raise InputError(folder / "run.yaml", f"names no known method ({method!r})", f"Known methods: {known}")
    return str(method)
