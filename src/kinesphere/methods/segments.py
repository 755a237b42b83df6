"""The method of cryoSPHERE: an atomic model in learnt segments that move as rigid bodies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from kinesphere.config import Advanced, require_positive
from kinesphere.methods.atomic_model import (
    AtomicModelMethod,
    AtomicModelOptions,
    AtomicModelTrainingConfig,
)
from kinesphere.training.options import ScheduleConfig

if TYPE_CHECKING:  # the help of a command has to be quick
    from kinesphere.motion.reference import Reference
    from kinesphere.motion.segments import SegmentsMotion


@dataclass(frozen=True)
class SegmentsConfig:
    """How the chain is divided and how its segments may move."""

    n_segments: int | None = None
    """Number of segments, shared out over chains and ranges; none: one for every 16 residues, 4 to
    32; beyond 2,048 residues, one for every 64."""
    temperature: Advanced[float] = 20.0
    """τ of eq. 6: the larger, the sharper the boundaries between segments."""
    pivot: Advanced[Literal["centroid", "origin"]] = "centroid"
    """What segments rotate about: their own centroid (better conditioned) or the centre of the box
    (the paper)."""
    decoder_width: Advanced[int] = 128
    """Width of the two hidden layers of the decoder network."""


@dataclass(frozen=True)
class SegmentsScheduleConfig(ScheduleConfig):
    """When a segments run does what."""

    segmentation_learning_rate: Advanced[float] = 1e-2
    """Largest learning rate of the segments' boundaries."""

    @property
    def structural_learning_rate(self) -> float:
        """Learning rate of the segments' boundaries."""
        return self.segmentation_learning_rate


@dataclass(frozen=True)
class SegmentsTrainingConfig(AtomicModelTrainingConfig):
    """How segments are fitted."""

    schedule: SegmentsScheduleConfig = field(default_factory=SegmentsScheduleConfig)


@dataclass(frozen=True, kw_only=True)
class SegmentsOptions(AtomicModelOptions):
    """A cryoSPHERE run."""

    segments: SegmentsConfig = field(default_factory=SegmentsConfig)
    training: SegmentsTrainingConfig = field(default_factory=SegmentsTrainingConfig)

    def require_sensible(self) -> None:
        """See `MethodOptions.require_sensible`."""
        require_positive(
            n_segments=self.segments.n_segments,
            segmentation_learning_rate=self.training.schedule.segmentation_learning_rate,
        )
        super().require_sensible()


class Segments(AtomicModelMethod[SegmentsOptions]):
    """Learnt segments of an atomic model that move rigidly (cryoSPHERE)."""

    name = "segments"
    summary = (
        "Recover the conformation in every image as rigid motions of learnt segments of an atomic "
        "model (cryoSPHERE)."
    )
    options_class = SegmentsOptions
    demonstration: ClassVar[str | None] = (
        "Recovering the conformation in every image, from the closed structure alone"
    )

    def resolved_motion(self, n_points: int) -> Segments:
        """See `Method.resolved_motion`."""
        from kinesphere.motion.segments import default_n_segments

        chosen = self.options.segments
        n_segments = chosen.n_segments or default_n_segments(n_points)
        filled = replace(chosen, n_segments=n_segments)
        return Segments(replace(self.options, segments=filled))

    def make_motion(self, reference: Reference) -> SegmentsMotion:
        """See `Method.make_motion`."""
        from kinesphere.motion.segments import SegmentsMotion

        latent_dim = self.options.training.latents.n_dimensions
        return SegmentsMotion(
            reference.points,
            reference.domains,
            latent_dim,
            copies=reference.copies,
            **vars(self.options.segments),
        )


METHOD = Segments
