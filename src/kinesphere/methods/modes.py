"""Motion of an atomic model along the normal modes of its elastic network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kinesphere.config import Advanced, require_positive
from kinesphere.methods.atomic_model import AtomicModelMethod, AtomicModelOptions

if TYPE_CHECKING:  # the help of a command has to be quick
    from kinesphere.motion.modes import ModesMotion
    from kinesphere.motion.reference import Reference


@dataclass(frozen=True)
class ModesConfig:
    """Which modes the molecule moves along."""

    n_modes: int = 100
    """Number of modes, the softest first; all, where the molecule has fewer."""
    cutoff_angstrom: Advanced[float] = 12.0
    """Residues closer than this are joined by a spring."""
    block_length: Advanced[int] = 8
    """Residues in each rigid block of the network."""
    decoder_width: Advanced[int] = 128
    """Width of the two hidden layers of the decoder network."""


@dataclass(frozen=True, kw_only=True)
class ModesOptions(AtomicModelOptions):
    """A run along normal modes."""

    modes: ModesConfig = field(default_factory=ModesConfig)

    def require_sensible(self) -> None:
        """See `MethodOptions.require_sensible`."""
        require_positive(**vars(self.modes))
        super().require_sensible()


class Modes(AtomicModelMethod[ModesOptions]):
    """Amplitudes of the softest modes of an elastic network of an atomic model."""

    name = "modes"
    summary = (
        "Recover the conformation in every image as motion along the normal modes of an elastic "
        "network of an atomic model."
    )
    options_class = ModesOptions

    def resolved_motion(self, n_points: int) -> Modes:  # noqa: ARG002 - no number is left open
        """See `Method.resolved_motion`."""
        return self

    def make_motion(self, reference: Reference) -> ModesMotion:
        """See `Method.make_motion`."""
        from kinesphere.motion.modes import ModesMotion

        latent_dim = self.options.training.latents.n_dimensions
        return ModesMotion(
            reference.points, reference.domains, latent_dim, **vars(self.options.modes)
        )


METHOD = Modes
