"""cryoSPHERE's motion: learnt segments of the chain that move as rigid bodies (sections 3.3 to 3.5
of the paper).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kinesphere.kernels.composition import compose_two
from kinesphere.kernels.mixture import soft_memberships, two_largest_memberships
from kinesphere.motion.base import Motion, RigidStates, Unmodelled, first_layer, latent_network
from kinesphere.motion.copies import Copies

_SMALLEST_WIDTH = 0.05
_LARGEST_LOG = 6.0
_INITIAL_LOG_STD = -3.3  # bounded: a standard deviation of 0.05
_HELD_BY_NONE = 1e-6  # residues


def default_n_segments(n_residues: int) -> int:
    """Return how many segments a molecule is divided into unless the user says: one for every 16
    residues, 4 to 32; beyond 2,048 residues, one for every 64.
    """
    return max(min(max(n_residues // 16, 4), 32), n_residues // 64)


class Segmentation(nn.Module):
    """Who belongs to which segment: a Gaussian mixture over the residue index, with a posterior on
    its parameters.

    The mixture's means, widths and weights have the paper's independent Gaussian posteriors and
    standard normal priors. They are kept in units in which the prior is sensible for any chain
    length: a mean is its offset from even spacing in units of the spacing, a width is a log ratio
    to half the spacing, so that no value of a parameter is invalid, and none can collapse or
    overflow.

    Copies of a domain share one set of parameters, on the sequence that they have in common, so
    that their boundaries are at the same residue numbers. Each copy has segments of its own.

    Parameters
    ----------
    domains
        (n_points,) integer label: points in different domains (chains, or ranges the user gave)
        never share a segment.
    n_segments
        Number of segments, shared out over domains by their length.
    temperature
        τ of eq. 6.
    copies
        Which domains are copies of one another; none: no two are alike.
    """

    index: Tensor
    start: Tensor
    spacing: Tensor
    allowed: Tensor
    noise: Tensor
    component: Tensor

    def __init__(
        self,
        domains: Int[Tensor, " p"],
        n_segments: int,
        temperature: float,
        copies: Copies | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        layout = _lay_out(domains, n_segments, copies or Copies.none(domains))
        self.register_buffer("index", layout.index)  # residue index i of eq. 6
        self.register_buffer("start", layout.start)
        self.register_buffer("spacing", layout.spacing)
        self.register_buffer("allowed", domains[:, None] == layout.domain[None])  # (p, m)
        # Follows from the model, so that checkpoints do without.
        self.register_buffer("component", layout.component, persistent=False)
        n_components = int(layout.component.max()) + 1
        self.mean = nn.Parameter(torch.zeros(3, n_components))  # offsets of μ, log σ, α
        self.log_std = nn.Parameter(torch.full((3, n_components), _INITIAL_LOG_STD))
        self.register_buffer("noise", torch.zeros(3, n_components))

    @property
    def n_segments(self) -> int:
        """Number of segments."""
        return len(self.start)

    def resample(self, generator: torch.Generator) -> None:
        """Draw the mixture's parameters from their posterior (reparametrised); evaluation uses the
        posterior mean.
        """
        self.noise.copy_(torch.randn(self.noise.shape, generator=generator))

    def memberships(self) -> Float[Tensor, "p m"]:
        """Soft memberships G of eq. 6, (n_points, n_segments), rows adding up to 1."""
        return soft_memberships(*self._mixture(), self.index, self.allowed, self.temperature)

    def two_largest(self) -> tuple[Float[Tensor, "p two"], Int[Tensor, "p two"]]:
        """Membership and number of the two segments that hold most of each point, in chain order,
        (p, 2) each.
        """
        return two_largest_memberships(*self._mixture(), self.index, self.allowed, self.temperature)

    def nearest_points(self) -> Int[Tensor, " m"]:
        """Give the point of its domain that each segment begins nearest to, (n_segments,)."""
        distance = (self.index[:, None] - self.start).abs()
        return distance.masked_fill(~self.allowed, torch.inf).argmin(dim=0)

    def _mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """Centre and width, in residues, and logarithm of the weight of each component."""
        value = (
            self.mean + self.noise * _bounded(self.log_std).exp() if self.training else self.mean
        )
        offset, log_width, log_weight = value[:, self.component].unbind(0)
        centre = self.start + self.spacing * offset
        width = 0.5 * self.spacing * (torch.exp(_bounded(log_width)) + _SMALLEST_WIDTH)
        return centre, width, functional.log_softmax(log_weight, dim=0)

    def divergence(self) -> Tensor:
        """KL of the Gaussian posteriors of the mixture's parameters from their standard normal
        priors, in nats; what copies share counts once.
        """
        log_std = _bounded(self.log_std)
        return 0.5 * ((2.0 * log_std).exp() + self.mean**2 - 1.0 - 2.0 * log_std).sum()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Load parameters. Those of a run from before copies shared theirs are one set a segment,
        and stay so.
        """
        stored = state_dict.get(f"{prefix}mean")
        if stored is not None and stored.shape[1] == self.n_segments != self.mean.shape[1]:
            self.component = torch.arange(self.n_segments, device=self.component.device)
            self.noise = self.noise.new_zeros(3, self.n_segments)
            for parameter in (self.mean, self.log_std):
                # The same parameter in another shape: an optimiser may know it already.
                parameter.data = parameter.data.new_zeros(3, self.n_segments)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class SegmentsMotion(Motion):
    """Rigid motion of learnt segments: a network maps z to one rotation and one translation a
    segment.

    Parameters
    ----------
    reference
        (n_points, 3) residue centres of the nominal model in Å, box centre at zero.
    domains
        (n_points,) integer labels; see `Segmentation`.
    latent_dim
        Number of latent dimensions.
    copies
        Which domains are copies of one another: their boundaries are at the same residues, while
        each segment of each copy moves by itself. None: no two are alike.
    n_segments
        Number of segments, shared out over domains by their length, at least one each; none:
        `default_n_segments`.
    temperature
        τ of eq. 6: the larger, the sharper the boundaries between segments.
    pivot
        What segments rotate about: their own centroid, or the centre of the box.
    decoder_width
        Width of the two hidden layers of the decoder network.
    """

    pivots: Tensor
    radius: Tensor
    unmodelled = Unmodelled(residue_fraction=0.2, collective_fraction=0.05, floor_angstrom=0.1)

    def __init__(
        self,
        reference: Float[Tensor, "p 3"],
        domains: Int[Tensor, " p"],
        latent_dim: int,
        *,
        copies: Copies | None = None,
        n_segments: int | None = None,
        temperature: float = 20.0,
        pivot: Literal["centroid", "origin"] = "centroid",
        decoder_width: int = 128,
    ) -> None:
        super().__init__(reference, latent_dim)
        self.pivot = pivot
        n_wanted = n_segments or default_n_segments(reference.shape[0])
        self.segmentation = Segmentation(domains, n_wanted, temperature, copies)
        self.decoder = latent_network(latent_dim, decoder_width, 6 * self.segmentation.n_segments)
        self.register_buffer("pivots", self._initial_pivots())
        self.register_buffer("radius", self._initial_radii())

    def _initial_pivots(self) -> Tensor:
        if self.pivot == "origin":
            return self.reference.new_zeros(self.segmentation.n_segments, 3)
        with torch.no_grad():
            weight = self.segmentation.memberships()
            held = weight.sum(0)[:, None]
            centroid = (weight.T @ self.reference) / held.clamp_min(_HELD_BY_NONE)
            # Where a copy lacks all residues of a segment, the nearest that it has stands for them.
            nearest = self.reference[self.segmentation.nearest_points()]
            return torch.where(held > _HELD_BY_NONE, centroid, nearest)

    def _initial_radii(self) -> Tensor:
        """Radius of gyration of each segment in Å, at least 5: makes a rotation as large a step as
        a translation.
        """
        with torch.no_grad():
            weight = self.segmentation.memberships()
            squared = ((self.reference[:, None] - self.pivots) ** 2).sum(-1)
            mean = (weight * squared).sum(0) / weight.sum(0).clamp_min(_HELD_BY_NONE)
            return mean.sqrt().clamp_min(5.0)

    @property
    def latent_layer(self) -> nn.Linear:
        """See `Motion.latent_layer`."""
        return first_layer(self.decoder)

    def resample(self, generator: torch.Generator) -> None:
        """Draw the segmentation from its posterior."""
        self.segmentation.resample(generator)

    def divergence(self) -> Tensor:
        """KL of the segmentation's posterior from its prior, in nats."""
        return self.segmentation.divergence()

    def structural_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the segmentation."""
        return self.segmentation.parameters()

    def memberships(self) -> Float[Tensor, "p m"]:
        """Soft memberships G of the residues in the segments."""
        return self.segmentation.memberships()

    def transforms(
        self, z: Float[Tensor, "k d"]
    ) -> tuple[Float[Tensor, "k m 3"], Float[Tensor, "k m 3"]]:
        """Rotation vectors (radians) and translations (Å) of every segment at z, each (k,
        n_segments, 3).

        Rotation vectors instead of quaternions: no constraint to break, and the paper's angle G_im
        δ_m is a product.
        """
        output = self.decoder(z).reshape(z.shape[0], -1, 6)
        return output[..., :3] / self.radius[:, None], output[..., 3:]

    def move(
        self, z: Float[Tensor, "k d"], points: Float[Tensor, "q 3"], owner: Int[Tensor, " q"]
    ) -> Float[Tensor, "k q 3"]:
        """Move points with the segments of the residues they belong to; the two largest memberships
        of each count.
        """
        return self.states(z).move(points, owner)

    def states(self, z: Float[Tensor, "k d"]) -> SegmentStates:
        """See `Motion.states`."""
        rotation, translation = self.transforms(z)
        share, segment = self.segmentation.two_largest()
        return SegmentStates(self, z, rotation, translation, self.pivots, share, segment)


@dataclass(frozen=True)
class SegmentStates(RigidStates):
    """The rotations and translations of all segments at latent positions, and the two segments that
    hold each residue.

    Parameters
    ----------
    rotation, translation
        (k, n_segments, 3) in radians and Å.
    pivots
        (n_segments, 3) what the segments rotate about.
    share, segment
        (n_points, 2) the largest memberships of each residue, and of which segments.
    """

    pivots: Float[Tensor, "m 3"]
    share: Float[Tensor, "p two"]
    segment: Int[Tensor, "p two"]

    def move(
        self, points: Float[Tensor, "q 3"], owner: Int[Tensor, " q"]
    ) -> Float[Tensor, "k q 3"]:
        """See `Motion.move`."""
        whose = self.share.index_select(0, owner), self.segment.index_select(0, owner)
        return compose_two(points, *whose, self.rotation, self.translation, self.pivots)


def _bounded(logarithm: Tensor) -> Tensor:
    """Keep a logarithm inside ±6, a factor of 400 either way, where it is far from the float
    limits; near 0, itself.
    """
    return _LARGEST_LOG * torch.tanh(logarithm / _LARGEST_LOG)


@dataclass(frozen=True)
class _Layout:
    """Even starting positions.

    Parameters
    ----------
    index
        (n_points,) residue index: place along the sequences of all families, laid end to end.
    start, spacing, domain, component
        (n_segments,) μ₀, distance to the next segment, label of the domain, and which of the
        mixture's components the segment is, copies of a segment the same one.
    """

    index: Tensor
    start: Tensor
    spacing: Tensor
    domain: Tensor
    component: Tensor


def _lay_out(domains: Tensor, n_segments: int, copies: Copies) -> _Layout:
    """Share segments out over domains, by the length of the sequence that each is a copy of."""
    n_families = int(copies.family.max()) + 1
    lengths = torch.zeros(n_families, dtype=torch.int64)
    lengths = lengths.scatter_reduce(0, copies.family, copies.place + 1, "amax")
    firsts = lengths.cumsum(0) - lengths
    labels, sizes = domains.unique_consecutive(return_counts=True)
    families = copies.family[sizes.cumsum(0) - sizes]
    share = lengths[families].double() / lengths[families].sum() * n_segments
    counts = share.round().long().clamp_min(1)
    start = []
    spacing = []
    owner = []
    component: list[int] = []
    first_component: dict[int, int] = {}
    for label, family, count in zip(
        labels.tolist(), families.tolist(), counts.tolist(), strict=True
    ):
        first = int(firsts[family])
        step = int(lengths[family]) / count
        start += [first + step * (m + 0.5) - 0.5 for m in range(count)]
        spacing += [step] * count
        owner += [label] * count
        # Copies are of one length, so they have the same number of segments.
        begin = first_component.setdefault(family, max(component, default=-1) + 1)
        component += range(begin, begin + count)
    index = (firsts[copies.family] + copies.place).to(torch.float32)
    return _Layout(index, *map(torch.tensor, (start, spacing, owner, component)))
