"""The method of DynaMight: pseudo-atoms of a map, carried by a learnt field, on two half sets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from kinesphere.config import Advanced, require_not_negative, require_positive
from kinesphere.errors import InputError
from kinesphere.methods.base import Method, MethodOptions
from kinesphere.training.options import ScheduleConfig, TrainingConfig

if TYPE_CHECKING:  # the help of a command has to be quick
    import numpy as np
    from numpy.typing import NDArray

    from kinesphere.io.mrc import DensityMap
    from kinesphere.methods.molecule import Molecule
    from kinesphere.motion.field import FieldMotion
    from kinesphere.motion.pseudo_atoms import Solid
    from kinesphere.motion.reference import Reference
    from kinesphere.motion.restraints import Restraint
    from kinesphere.particles import ParticleSet

_LARGEST_VALIDATION_FRACTION = 0.5
_REPLACED_AT_LATEST = 0.6  # of a run: the rest is left to mend what moving the reference has bent
_FINEST_OF_PIXELS = 2.5


@dataclass(frozen=True)
class FieldConfig:
    """The form of the displacement field."""

    decoder: Literal["separable", "network"] = "separable"
    """`separable`: parts that move nearly rigidly, blended smoothly in space. `network`: the
    DynaMight paper's coordinate network, tens of times slower."""
    n_parts: int | None = None
    """Parts of the separable field; none: one for every 24 Gaussians, at least 8 and at most 32."""
    decoder_width: int = 128
    """Width of the hidden layers of the decoder network."""
    n_frequencies: int = 10
    """Frequencies of the positional encoding (`network`), from one wave in 256 Å to one in 16 Å."""
    fold_weight: float = 3.0
    """Weight of the penalty on places where the field folds space over or compresses it to less
    than 0.2 of its volume, in nats for each Gaussian; 0: none. What folds has no inverse."""


@dataclass(frozen=True)
class FieldRestraintsConfig:
    """Priors on the displacement field (eqs. 12 to 14)."""

    distance_weight: float = 0.05
    """Weight of the penalties on changed and on short distances between neighbouring Gaussians, in
    nats/Å² for each Gaussian; 0: none. At an SNR of 0.05 an image says a few nats about a moving
    domain: at 0.5 the field never starts moving."""
    gradient_ratio: float | None = None
    """Set that weight anew in every pass so that its gradient has this ratio to the data term's;
    the paper: 0.9. Not the default: before anything moves the penalty has hardly a gradient, the
    weight soars, and nothing ever will."""


@dataclass(frozen=True)
class FieldScheduleConfig(ScheduleConfig):
    """When a field run does what, with the DynaMight paper's rules; zero switches a rule off.

    The paper trains an encoder for hundreds of epochs. On the exact marginal likelihood some ten
    passes do, so its rules that act every tenth and every 30th epoch act early here, or not at all
    within most runs. Its two rules against a reference that drifts out of the distribution of
    states have less to do as well: the field vanishes at one latent position, whose state the
    reference therefore is.
    """

    learning_rate: Advanced[float] = 3e-3
    """Largest learning rate of the networks (Adam). A field starts from no motion at all."""
    reference_learning_rate: Advanced[float] = 0.06
    """Largest step of a pseudo-atom's reference position, in Å (Adam)."""
    reference_epochs: Advanced[int] = 1
    """First passes in which only the pseudo-atoms learn."""
    fix_networks_every: Advanced[int] = 30
    """After every so many passes the networks are fixed for a few."""
    fix_networks_for: Advanced[int] = 5
    """Passes for which they then are fixed."""
    replace_reference_every: Advanced[int] = 10
    """Before every so many passes, the predicted state nearest to the consensus replaces the
    reference positions; once in a run of fewer passes. It brings the references of both half sets
    to one state without showing either to the other, as the paper's mask about one half's Gaussians
    does."""
    largest_falls: Advanced[int] = 40
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


@dataclass(frozen=True)
class FieldTrainingConfig(TrainingConfig):
    """How a field is fitted: always two models, on two half sets."""

    schedule: FieldScheduleConfig = dataclass_field(default_factory=FieldScheduleConfig)
    restraints: Advanced[FieldRestraintsConfig] = dataclass_field(
        default_factory=FieldRestraintsConfig
    )
    validation_fraction: Advanced[float] = 0.1
    """Part of each half set that trains no motion: on it the errors of the two models are
    measured."""

    @property
    def halves(self) -> bool:
        """There are always two models."""
        return True


@dataclass(frozen=True, kw_only=True)
class FieldOptions(MethodOptions):
    """A DynaMight run."""

    map: Path
    """Consensus map of these particles; its low-resolution part is where the pseudo-atoms start
    from."""
    model: Path | None = None
    """Atomic model, fitted into the map, to make the pseudo-atoms from by coarse-graining; none:
    from the map."""
    regularise_with_model: Advanced[bool] = False
    """Keep distances along the bonds of --model instead of between neighbours. Biases the result
    towards the model."""
    n_gaussians: int | None = None
    """Number of pseudo-atoms; none: one for every 110 Å³ of density, fewer where the images resolve
    less."""
    n_classes: Advanced[int] = 1
    """Number of widths of the pseudo-atoms (N_c of eq. 8): more where local resolution varies
    much."""
    threshold: float | None = None
    """Density above which the map is molecule, after filtering; none: from the noise outside the
    molecule."""
    map_resolution_angstrom: Advanced[float] = 10.0
    """Resolution the map is filtered to first: nothing finer is shared by the half sets."""
    field: Advanced[FieldConfig] = dataclass_field(default_factory=FieldConfig)
    training: FieldTrainingConfig = dataclass_field(default_factory=FieldTrainingConfig)

    def require_sensible(self) -> None:
        """See `MethodOptions.require_sensible`."""
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
        super().require_sensible()


class Field(Method[FieldOptions]):
    """A displacement field of a map's pseudo-atoms, on two independent half sets (DynaMight)."""

    name = "field"
    summary = (
        "Recover the conformation in every image as a displacement field of the consensus map's "
        "pseudo-atoms (DynaMight)."
    )
    options_class = FieldOptions
    points_name = "pseudo-atoms"
    moves_atoms = False
    demonstration: ClassVar[str | None] = (
        "Recovering it again without any structure: from the blurred map, in two half sets"
    )

    @property
    def source(self) -> Path:
        """The consensus map."""
        return self.options.map

    def read(self, particles: ParticleSet) -> Molecule:
        """Turn the consensus map, or an atomic model in it, into pseudo-atoms."""
        from kinesphere.io.structure import read_model
        from kinesphere.methods.frame import find_centre
        from kinesphere.methods.molecule import Molecule
        from kinesphere.motion.coarse_grain import coarse_grain
        from kinesphere.motion.pseudo_atoms import default_count, fit_to_density, pseudo_atoms_of

        options = self.options
        centre = find_centre(particles, options.map)
        density, solid = self._read_solid()
        resolution = self._resolution_used(density)
        seed = options.training.seed
        if options.model is None:
            pixel = density.pixel_size_angstrom
            finest = max(options.training.images.resolution_angstrom, 2.0 * pixel)
            count = options.n_gaussians or default_count(solid, finest)
            atoms = pseudo_atoms_of(solid, count, resolution, options.n_classes, seed)
        else:
            model = read_model(options.model)
            start = coarse_grain(model, centre, str(options.model), options.n_classes)
            atoms = fit_to_density(start, solid, resolution, seed, move=False)
        return Molecule.of_pseudo_atoms(atoms, centre)

    def load(self, folder: Path, centre_angstrom: NDArray[np.float64]) -> Molecule:
        """See `Method.load`."""
        from kinesphere.methods.molecule import PSEUDO_ATOM_FILE, Molecule
        from kinesphere.motion.pseudo_atoms import PseudoAtoms

        atoms = PseudoAtoms.load(folder / PSEUDO_ATOM_FILE)
        return Molecule.of_pseudo_atoms(atoms, centre_angstrom)

    def consensus(self, run: Path) -> tuple[DensityMap, Solid]:  # noqa: ARG002 - it never refuses
        """Read the consensus map, and where in it the molecule is."""
        return self._read_solid()

    def _read_solid(self) -> tuple[DensityMap, Solid]:
        from kinesphere.io.mrc import read_map
        from kinesphere.motion.pseudo_atoms import find_solid

        options = self.options
        density = read_map(options.map)
        resolution = self._resolution_used(density)
        pixel = density.pixel_size_angstrom
        return density, find_solid(density.data, pixel, resolution, options.map, options.threshold)

    def _resolution_used(self, density: DensityMap) -> float:
        finest = _FINEST_OF_PIXELS * density.pixel_size_angstrom
        return max(self.options.map_resolution_angstrom, finest)

    def resolved_motion(self, n_points: int) -> Field:
        """See `Method.resolved_motion`."""
        from kinesphere.motion.field import default_n_parts

        chosen = self.options.field
        n_parts = chosen.n_parts or default_n_parts(n_points)
        filled = replace(chosen, n_parts=n_parts)
        return Field(replace(self.options, n_gaussians=n_points, field=filled))

    def make_motion(self, reference: Reference) -> FieldMotion:
        """See `Method.make_motion`."""
        from kinesphere.motion.field import CoordinateField, SeparableField

        chosen = self.options.field
        latent_dim = self.options.training.latents.n_dimensions
        if chosen.decoder == "separable":
            return SeparableField(
                reference.points,
                latent_dim,
                n_parts=chosen.n_parts,
                decoder_width=chosen.decoder_width,
                fold_weight=chosen.fold_weight,
            )
        return CoordinateField(
            reference.points,
            latent_dim,
            decoder_width=chosen.decoder_width,
            n_frequencies=chosen.n_frequencies,
            fold_weight=chosen.fold_weight,
        )

    def make_restraints(self, reference: Reference) -> Restraint:
        """Keep distances between neighbouring pseudo-atoms, or along the bonds of a model."""
        from kinesphere.motion.restraints import NeighbourRestraints

        chosen = self.options.training.restraints
        return NeighbourRestraints(
            reference.points,
            weight=chosen.distance_weight,
            balance=chosen.gradient_ratio,
            edges=reference.edges if self.options.regularise_with_model else None,
        )

    def width_angstrom(self, reference: Reference) -> tuple[float, ...]:
        """See `Method.width_angstrom`."""
        if reference.width_angstrom is None:
            raise TypeError("pseudo-atoms have widths")
        return reference.width_angstrom

    def warning(self) -> str | None:
        """Warn where the bonds of an atomic model restrain the field (the paper's section on model
        bias).
        """
        if not self.options.regularise_with_model:
            return None
        return (
            "Model bias: with --regularise-with-model the deformations, and maps made from them, "
            "can come to resemble the given model even where it is wrong, most of all in flexible "
            "regions. Do not validate that model with this run."
        )

    def provenance(self) -> dict[str, object]:
        """Say what the two half sets have in common."""
        options = self.options
        name = options.model.name if options.model else ""
        if options.model is None:
            finest = f"nothing finer than {options.map_resolution_angstrom:g} Å"
            shared = [f"start of the pseudo-atoms: {options.map.name}, {finest}"]
        else:
            shared = [
                f"start of the pseudo-atoms: coarse-grained from {name}",
                "consensus map: their widths",
            ]
        if options.regularise_with_model:
            shared.append(f"restraints: bonds of {name}; biased towards that model")
        shared.append("poses and CTF of all particles, as they come")
        return {"shared_by_half_sets": shared}


METHOD = Field
