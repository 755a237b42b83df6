"""From latent positions to the Gaussians that are rendered: motion, reference and weights."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from kinesphere.motion.base import Motion, States
from kinesphere.motion.reference import Reference


@dataclass(frozen=True)
class Decoded:
    """What a decoder makes of latent positions.

    Parameters
    ----------
    states
        The states of the motion, to which further points can be moved.
    positions
        (k, g, 3) the Gaussians in these states, in Å.
    """

    states: States
    positions: Float[Tensor, "k g 3"]

    @property
    def z(self) -> Float[Tensor, "k d"]:
        """The latent positions."""
        return self.states.z

    def structures(self, rows: Int[Tensor, " r"]) -> Float[Tensor, "r p 3"]:
        """Positions in Å of the points that the motion moves, in some of the states."""
        if self.states.motion.learns_reference:  # there the points are what is rendered
            return self.positions.index_select(0, rows)
        return self.states[rows].move_reference()


class Decoder(nn.Module):
    """y(z): a motion model, what it moves, and how much each Gaussian weighs.

    Parameters
    ----------
    motion
        How points move.
    reference
        The molecule: its points, and the Gaussians that move with them.
    """

    start: Tensor
    owner: Tensor
    electrons: Tensor

    def __init__(self, motion: Motion, reference: Reference) -> None:
        super().__init__()
        self.motion = motion
        self.register_buffer("start", reference.beads.clone(), persistent=False)
        self.register_buffer("owner", reference.bead_owner.clone(), persistent=False)
        by_width = reference.amplitude.reshape(-1, len(reference.beads))
        self.register_buffer("electrons", by_width.sum(0), persistent=False)

    @property
    def at_rest(self) -> Float[Tensor, "g 3"]:
        """The Gaussians in the reference state as it is now, in Å."""
        return self.motion.at_rest(self.start)

    @property
    def weight(self) -> Float[Tensor, " g"] | None:
        """Factor on the amplitude of each Gaussian; none: the amplitudes given are right."""
        return self.motion.bead_weight()

    @property
    def amplitude(self) -> Float[Tensor, " g"]:
        """Amplitude of each Gaussian, of all widths together, as it is now."""
        weight = self.weight
        return self.electrons if weight is None else self.electrons * weight

    def forward(self, z: Float[Tensor, "k d"]) -> Decoded:
        """Decode latent positions, differentiably: states and Gaussians."""
        states = self.motion.states(z)
        return Decoded(states, states.move(self.at_rest, self.owner))

    def decode(self, z: Float[Tensor, "k d"]) -> Float[Tensor, "k g 3"]:
        """Positions of the Gaussians at latent positions, in Å."""
        return self.motion.move(z, self.at_rest, self.owner)
