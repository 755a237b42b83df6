"""What every method is: options, and what is read, moved, restrained and recorded because of them.

A method is one file: a dataclass of options and a subclass of `Method`.
The motion model itself, how points move, is one file of `motion`. Modules of this folder import
neither torch, numba nor scipy at their top, so that the help of a command is quick.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from kinesphere.config import Advanced, load_yaml
from kinesphere.errors import InputError
from kinesphere.training.options import TrainingConfig

if TYPE_CHECKING:  # the help of a command has to be quick: see above
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from kinesphere.imaging.band import FourierBand
    from kinesphere.imaging.forward import ForwardModel
    from kinesphere.inference.latents import LatentModel
    from kinesphere.io.mrc import DensityMap
    from kinesphere.methods.molecule import Molecule
    from kinesphere.motion.base import Motion
    from kinesphere.motion.pseudo_atoms import Solid
    from kinesphere.motion.reference import Reference
    from kinesphere.motion.restraints import Restraint
    from kinesphere.particles import ParticleSet
    from kinesphere.training.trainer import Model

_TOTAL_INTENSITY = 100.0
OptionsT = TypeVar("OptionsT", bound="MethodOptions")


def _is_required(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """What the user chooses of a run, whatever its method."""

    particles: Path
    """RELION STAR or cryoSPARC .cs file of particles with poses and CTF."""
    passthrough: Advanced[Path | None] = None
    """cryoSPARC passthrough file."""
    ignore_misfit: Advanced[bool] = False
    """Go on although map or images show the molecule elsewhere, as they may where the model is a
    small part of it."""
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @property
    def atomic_model(self) -> Path | None:
        """The file of the atomic model, where the user gave one."""
        path: Path | None = getattr(self, "model", None)
        return path

    @property
    def input_files(self) -> tuple[Path, ...]:
        """The files that the user gave, in the order in which run.yaml records them."""
        names = ("particles", "passthrough", "model", "map")
        paths = (getattr(self, name, None) for name in names)
        return tuple(path for path in paths if path is not None)

    def require_sensible(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises
        ------
        InputError
            Naming the option.
        """
        self.training.require_sensible()


class Method(ABC, Generic[OptionsT]):
    """A way of recovering motion: from its options to the parts of a model.

    Parameters
    ----------
    options
        What the user chose.
    """

    name: ClassVar[str]
    """Name of its command, and in run.yaml."""
    summary: ClassVar[str]
    """What it does, in the line that the help shows."""
    options_class: ClassVar[type[MethodOptions]]
    """Its options."""
    points_name: ClassVar[str] = "residues"
    """What the points that it moves are called."""
    moves_atoms: ClassVar[bool] = True
    """Whether what it moves are the atoms of a model; else an atomic model can be carried along."""
    demonstration: ClassVar[str | None] = None
    """What the demonstration says when it runs this method; none: it does not."""

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    @classmethod
    def from_yaml(cls, path: Path) -> Method[OptionsT]:
        """Read the options that `run.yaml` records."""
        return cls(load_yaml(cls.options_class, path))  # type: ignore[arg-type]  # its own class

    @classmethod
    def from_files(cls, particles: Path, density: Path, model: Path) -> Method[OptionsT]:
        """Return the method with its defaults, on a set of which there are a map and a model.

        Parameters
        ----------
        particles, density
            Particle file and consensus map.
        model
            Atomic model in that map; given to a method that cannot do without.
        """
        required = {entry.name for entry in fields(cls.options_class) if _is_required(entry)}
        files = {"particles": particles, "map": density}
        if "model" in required:
            files["model"] = model
        return cls(cls.options_class(**files))  # type: ignore[arg-type]  # its own class

    def with_options(self, **changes: Any) -> Method[OptionsT]:
        """Return the same method with some options changed."""
        return type(self)(replace(self.options, **changes))

    def with_latent_dim(self, latent_dim: int) -> Method[OptionsT]:
        """Return the same method with the number of latent dimensions that its images asked for."""
        training = self.options.training
        latents = replace(training.latents, latent_dim=latent_dim)
        return self.with_options(training=replace(training, latents=latents))

    # What it reads

    @property
    @abstractmethod
    def source(self) -> Path:
        """The file of what is moved, for messages."""

    @abstractmethod
    def read(self, particles: ParticleSet) -> Molecule:
        """Read what is to be moved, and check all that can be told about it without the images.

        Raises
        ------
        InputError
            If the run would fail or mean nothing.
        """

    @abstractmethod
    def load(self, folder: Path, centre_angstrom: NDArray[np.float64]) -> Molecule:
        """Read what a run moves from its folder."""

    def consensus(self, run: Path) -> tuple[DensityMap, Solid]:
        """Read the consensus map of a run whose motion is defined in space, and where in it the
        molecule is.

        Raises
        ------
        InputError
            If the run moves residues, and says nothing about the space between.
        """
        raise InputError(
            run, "moves residues, not the space around them", "Give a run of kinesphere field"
        )

    # What was left open

    @abstractmethod
    def resolved_motion(self, n_points: int) -> Method[OptionsT]:
        """Fill in the numbers of the motion model, for so many points that move."""

    def resolved(self, n_points: int, n_images: int) -> Method[OptionsT]:
        """Put numbers where the user left the choice to the program, so that run.yaml says what was
        done.

        Parameters
        ----------
        n_points
            Residues or pseudo-atoms that move.
        n_images
            Images each model is trained on.
        """
        filled = self.resolved_motion(n_points)
        return filled.with_options(training=self.options.training.resolved(n_images))

    # What it moves, and how that is restrained

    @abstractmethod
    def make_motion(self, reference: Reference) -> Motion:
        """Make the motion model, its parameters drawn from the global random state."""

    @abstractmethod
    def make_restraints(self, reference: Reference) -> Restraint:
        """Make the prior on structures."""

    @abstractmethod
    def width_angstrom(self, reference: Reference) -> float | tuple[float, ...]:
        """Return the standard deviation of the rendered Gaussians, or of each class, in Å."""

    def make_latents(self, band: FourierBand) -> LatentModel:
        """Make the way latents are inferred."""
        from kinesphere.inference.encoder import VariationalLatents
        from kinesphere.inference.gaussian import GaussianLatents
        from kinesphere.inference.latents import MarginalLatents

        chosen = self.options.training.latents.resolved()
        n_dimensions = chosen.n_dimensions
        if chosen.inference == "vae":
            return VariationalLatents(n_dimensions, band, chosen.encoder_shells)
        if chosen.inference == "gaussian":
            return GaussianLatents(
                n_dimensions, n_draws=chosen.n_draws, look_every=chosen.look_every
            )
        return MarginalLatents(
            n_dimensions,
            int(chosen.n_nodes or 0),
            n_draws=chosen.n_draws,
            look_every=chosen.look_every,
        )

    def make_model(self, reference: Reference, band: FourierBand) -> Model:
        """Make all that is trained: decoder, latents, data term and restraints."""
        from kinesphere.inference.decoder import Decoder
        from kinesphere.inference.objective import make_objective
        from kinesphere.training.trainer import Model

        return Model(
            decoder=Decoder(self.make_motion(reference), reference),
            latents=self.make_latents(band),
            objective=make_objective(self.options.training.objective),
            restraints=self.make_restraints(reference),
        )

    def make_forward(
        self, reference: Reference, band: FourierBand, device: torch.device
    ) -> ForwardModel:
        """Make the forward model.

        The Gaussians' total intensity is arbitrary, since the signal's scale is estimated.
        """
        from kinesphere.imaging.forward import ForwardModel

        amplitude = reference.amplitude / reference.amplitude.sum() * _TOTAL_INTENSITY
        return ForwardModel(band.to(device), amplitude.to(device), self.width_angstrom(reference))

    # What it tells

    def warning(self) -> str | None:
        """Return what the user has to be warned of before the run."""
        return None

    def provenance(self) -> dict[str, object]:
        """Return what run.yaml has to record beyond the options."""
        return {}
