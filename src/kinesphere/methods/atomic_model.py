"""What methods that move an atomic model share: reading it, its Gaussians, its restraints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kinesphere.config import Advanced, require_not_negative, require_positive
from kinesphere.inference.options import InferenceName, LatentsConfig
from kinesphere.methods.base import Method, MethodOptions
from kinesphere.motion.beads import BeadPlacement
from kinesphere.training.options import TrainingConfig

if TYPE_CHECKING:  # the help of a command has to be quick
    import numpy as np
    from numpy.typing import NDArray

    from kinesphere.io.structure import AtomicModel
    from kinesphere.methods.molecule import Molecule
    from kinesphere.motion.reference import Reference
    from kinesphere.motion.restraints import Restraint
    from kinesphere.particles import ParticleSet


@dataclass(frozen=True)
class RestraintsConfig:
    """Priors on structures: what the images do not resolve should not tear the chain."""

    continuity_weight: float = 0.5
    """Weight of the penalty on stretched or compressed bonds between residues, nats/Å²; 0 as in the
    paper."""
    clash_weight: float = 0.0
    """Weight of the penalty on residues closer than 4 Å, nats/Å²."""


@dataclass(frozen=True)
class AtomicModelLatentsConfig(LatentsConfig):
    """How the conformation of an atomic model in each image is inferred."""

    inference: InferenceName = "gaussian"


@dataclass(frozen=True)
class AtomicModelTrainingConfig(TrainingConfig):
    """How a motion of an atomic model is fitted."""

    latents: AtomicModelLatentsConfig = field(default_factory=AtomicModelLatentsConfig)
    restraints: Advanced[RestraintsConfig] = field(default_factory=RestraintsConfig)
    halves: bool = False
    """Train two models on two half sets that share nothing but the nominal model."""

    def require_sensible(self) -> None:
        """See `TrainingConfig.require_sensible`."""
        require_not_negative(
            continuity_weight=self.restraints.continuity_weight,
            clash_weight=self.restraints.clash_weight,
        )
        super().require_sensible()


@dataclass(frozen=True, kw_only=True)
class AtomicModelOptions(MethodOptions):
    """Options of a method that moves an atomic model."""

    model: Path
    """Nominal atomic model S0 (PDB or mmCIF), fitted into the consensus map."""
    map: Path | None = None
    """Consensus map; sets the frame of the model. None: the map RELION would make, its corner at
    zero."""
    beads: Advanced[BeadPlacement] = "centroid"
    """Gaussians: one a residue at its centroid or its central atom (`centre`), or one an atom."""
    bead_width_angstrom: Advanced[float] = 2.0
    """Standard deviation of the Gaussians (the paper's σ)."""
    ranges: tuple[str, ...] = ()
    """Residue ranges that no segment may cross, as A:1-120; the rest of each chain is a range of
    its own."""
    training: AtomicModelTrainingConfig = field(default_factory=AtomicModelTrainingConfig)

    def require_sensible(self) -> None:
        """See `MethodOptions.require_sensible`."""
        require_positive(bead_width_angstrom=self.bead_width_angstrom)
        super().require_sensible()


AtomicOptionsT = TypeVar("AtomicOptionsT", bound=AtomicModelOptions)


class AtomicModelMethod(Method[AtomicOptionsT]):
    """A method whose points are the residues of an atomic model."""

    @property
    def source(self) -> Path:
        """The file of the atomic model."""
        return self.options.model

    def read(self, particles: ParticleSet) -> Molecule:
        """See `Method.read`."""
        from kinesphere.io.structure import read_model
        from kinesphere.methods.frame import find_centre, require_fit, require_inside
        from kinesphere.methods.molecule import Molecule

        options = self.options
        model = read_model(options.model)
        centre = find_centre(particles, options.map)
        reference = self.make_reference(model, centre)
        first = particles.optics[int(particles.optics_group[0])]
        box_px = first.box_px or particles.images([0]).shape[-1]
        require_inside(reference, 0.5 * box_px * first.pixel_size_angstrom, options.model)
        if options.map is not None and not options.ignore_misfit:
            require_fit(reference, options.map, options.model)
        return Molecule(model, reference, centre)

    def load(self, folder: Path, centre_angstrom: NDArray[np.float64]) -> Molecule:
        """See `Method.load`."""
        from kinesphere.io.structure import read_model
        from kinesphere.methods.molecule import MODEL_FILE, Molecule

        model = read_model(folder / MODEL_FILE)
        return Molecule(model, self.make_reference(model, centre_angstrom), centre_angstrom)

    def make_reference(
        self, model: AtomicModel, centre_angstrom: NDArray[np.floating]
    ) -> Reference:
        """Prepare the nominal model: y⁰ of the equation."""
        from kinesphere.io.selection import label_residues
        from kinesphere.motion.reference import build_reference

        ranges = self.options.ranges
        domains = label_residues(model, ranges, "--ranges") if ranges else None
        return build_reference(
            model,
            centre_angstrom,
            source=str(self.options.model),
            placement=self.options.beads,
            domain_of_residue=domains,
        )

    def make_restraints(self, reference: Reference) -> Restraint:
        """Keep chains whole and residues apart."""
        from kinesphere.motion.restraints import Restraints

        weights = self.options.training.restraints
        return Restraints(
            reference.points,
            reference.chain,
            continuity=weights.continuity_weight,
            clash=weights.clash_weight,
        )

    def width_angstrom(self, reference: Reference) -> float:  # noqa: ARG002 - the user's choice
        """See `Method.width_angstrom`."""
        return self.options.bead_width_angstrom
