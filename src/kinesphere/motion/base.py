"""What every motion model is: a map from a latent position to the positions of points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

INITIAL_SIZE = 0.1
"""Size of what a network that has learnt nothing gives."""


@dataclass(frozen=True)
class Unmodelled:
    """How far molecules stray from a motion model, which no run can see from within: standard
    deviations.

    Each kind of motion has its own, fixed by simulation (docs/errors.md); a model that was never
    tested has none to offer, and says nothing.
    """

    residue_fraction: float = 0.0
    """Of the RMS displacement of a single residue."""
    collective_fraction: float = 0.0
    """Of the RMS amplitude of a motion of many residues, whose own errors average out."""
    floor_angstrom: float = 0.0
    """Of every residue, whether it moves or not."""


@dataclass(frozen=True)
class States:
    """The states of a motion at latent positions: several sets of points are moved to them one
    after the other.

    A motion model that has work in common for all points keeps it in a subclass.

    Parameters
    ----------
    motion
        The motion model, as it is now.
    z
        (k, latent_dim) latent positions.
    """

    motion: Motion
    z: Float[Tensor, "k d"]

    def __getitem__(self, rows: Int[Tensor, " own"]) -> States:
        """Return some of the states."""
        return States(self.motion, self.z[rows])

    def move(
        self, points: Float[Tensor, "q 3"], owner: Int[Tensor, " q"]
    ) -> Float[Tensor, "k q 3"]:
        """Move any points along: see `Motion.move`."""
        return self.motion.move(self.z, points, owner)

    def move_reference(self) -> Float[Tensor, "k p 3"]:
        """Positions in Å of the reference points."""
        reference = self.motion.reference
        return self.move(reference, torch.arange(reference.shape[0], device=reference.device))


@dataclass(frozen=True)
class RigidStates(States):
    """The rigid motions of the parts of a molecule at latent positions.

    Parameters
    ----------
    rotation, translation
        (k, n_parts, 3) in radians and Å.
    """

    rotation: Float[Tensor, "k m 3"]
    translation: Float[Tensor, "k m 3"]

    def __getitem__(self, rows: Int[Tensor, " own"]) -> RigidStates:
        """Return some of the states."""
        z, rotation, translation = (
            t.index_select(0, rows) for t in (self.z, self.rotation, self.translation)
        )
        return replace(self, z=z, rotation=rotation, translation=translation)


def latent_network(latent_dim: int, width: int, n_outputs: int) -> nn.Sequential:
    """Make the network from a latent position to what a motion model asks for: two hidden layers.

    Its outputs begin near 0.1 times a random number, so that hardly anything moves at first, and
    something learns.

    Parameters
    ----------
    latent_dim, width, n_outputs
        Numbers of latent dimensions, of hidden units of each layer, and of outputs.
    """
    last = nn.Linear(width, n_outputs)
    nn.init.normal_(last.weight, std=INITIAL_SIZE / width**0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(latent_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last
    )


def first_layer(network: nn.Sequential) -> nn.Linear:
    """Return the first layer of what `latent_network` made."""
    layer = network[0]
    if not isinstance(layer, nn.Linear):
        raise TypeError("the network does not begin with a linear layer")
    return layer


class Motion(nn.Module, ABC):
    """y(z) = motion(z, y⁰): moves reference points, and whatever belongs to them, to the
    conformation at latent z.

    A motion model is one subclass in one file; the rest of the program only uses the members below.

    Parameters
    ----------
    reference
        (n_points, 3) y⁰ in Å, the centre of the box at zero.
    latent_dim
        Number of latent dimensions.
    learns_reference
        Whether y⁰ is a parameter: pseudo-atoms of a blurred map start where no state of the
        molecule has them.
    """

    reference: Tensor
    unmodelled = Unmodelled()

    def __init__(
        self, reference: Float[Tensor, "p 3"], latent_dim: int, *, learns_reference: bool = False
    ) -> None:
        super().__init__()
        if learns_reference:
            self.reference = nn.Parameter(reference.clone())
        else:
            self.register_buffer("reference", reference.clone())
        self.learns_reference = learns_reference
        self.latent_dim = latent_dim

    def forward(self, z: Float[Tensor, "k d"]) -> Float[Tensor, "k p 3"]:
        """Positions in Å of the reference points at latent positions z."""
        return self.states(z).move_reference()

    def states(self, z: Float[Tensor, "k d"]) -> States:
        """States at latent positions z, for several sets of points."""
        return States(self, z)

    @abstractmethod
    def move(
        self, z: Float[Tensor, "k d"], points: Float[Tensor, "q 3"], owner: Int[Tensor, " q"]
    ) -> Float[Tensor, "k q 3"]:
        """Move any points along.

        Parameters
        ----------
        z
            (k, latent_dim) latent positions.
        points
            (q, 3) in Å, in the frame of the reference.
        owner
            (q,) the reference point each of them belongs to (an atom to its residue).

        Returns
        -------
        Tensor
            (k, q, 3) in Å.
        """

    @abstractmethod
    def memberships(self) -> Float[Tensor, "p m"]:
        """Soft assignment of the reference points to parts that move as one; rows add up to 1."""

    def at_rest(self, beads: Float[Tensor, "g 3"]) -> Float[Tensor, "g 3"]:
        """Where the rendered Gaussians are in the reference state: as given, or y⁰ itself where it
        is learnt.
        """
        return self.reference if self.learns_reference else beads

    def bead_weight(self) -> Float[Tensor, " g"] | None:
        """Factor on the amplitude of each Gaussian; none where the amplitudes given are right."""
        return None

    def replace_reference(self, z: Float[Tensor, " d"]) -> None:
        """Make the state at z the reference state; nothing where y⁰ is given."""

    @property
    def latent_layer(self) -> nn.Linear:
        """The layer that takes latent positions in, without which nothing depends on them.

        Raises
        ------
        NotImplementedError
            If the model has none: then its latents cannot be turned.
        """
        raise NotImplementedError

    @torch.no_grad()
    def turn(self, basis: Float[Tensor, "d e"]) -> None:
        """Take latent positions e from now on, with z = basis · e: turned, fewer, or more than
        before.
        """
        layer = self.latent_layer
        layer.weight = nn.Parameter(layer.weight @ basis)
        layer.in_features = self.latent_dim = basis.shape[1]

    def resample(self, generator: torch.Generator) -> None:
        """Draw the model's own random parameters afresh (once a training step); nothing by
        default.
        """

    def divergence(self) -> Float[Tensor, ""]:
        """KL divergence, in nats, of the posterior of the model's own parameters from their prior;
        0 by default.
        """
        return self.reference.new_zeros(())

    def strain(
        self,
        z: Float[Tensor, "k d"],  # noqa: ARG002 - a hook that does nothing here
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, " k"] | None:
        """Energy in nats of what a state at z does to the space it is defined in; none here."""
        return None

    def structural_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the molecule rather than of its motion, which learn at their own rate; none
        by default.
        """
        return iter(())
