"""DynaMight's motion: a displacement field δ(z, x) that is smooth in x and defined everywhere (eqs.
3, 4 and 9).

Two forms. `SeparableField` writes δ(z, x) = Σ_k a_k(z) φ_k(x): the φ depend on the place only and
are worked out once for all latent positions, the a on the latent only, and the rest is one matrix
product. `CoordinateField` is the paper's network of place and latent together, evaluated once for
every pair; the reference the other is compared with.

Both vanish at one latent position, the anchor: the reference is a state that the decoder reaches,
never an average that no molecule has. The paper approaches the same by fixing the networks now and
then and by replacing the reference.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinesphere.kernels.blending import blended_basis, blending_weights
from kinesphere.kernels.rigid_maps import rigid_maps
from kinesphere.motion.base import INITIAL_SIZE, Motion, Unmodelled, first_layer, latent_network
from kinesphere.motion.spread import spread_centres

_POINTS_A_PART = 24
_FEWEST_PARTS = 8
_MOST_PARTS = 32
_FEWEST_RADIUS_ANGSTROM = 5.0
_LARGEST_LOG = 1.5
_PLACES_WATCHED = 64
_WATCHED_DISTANCE_ANGSTROM = 2.0
_PROBE_ANGSTROM = 1.0
_LARGEST_COMPRESSION = 0.2
_LOG_WEIGHT_STD = 0.15
_SHORTEST_WAVE_ANGSTROM = (
    16.0  # no shorter than what neighbouring side chains share: finer motion is noise
)
_LONGEST_WAVE_ANGSTROM = 256.0


def default_n_parts(n_points: int) -> int:
    """Return the number of parts unless the user says: one for every 24 Gaussians, 8 to 32."""
    return min(max(n_points // _POINTS_A_PART, _FEWEST_PARTS), _MOST_PARTS)


class FieldMotion(Motion):
    """Γ_z(x) = x + δ(z, x) − δ(anchor, x), with pseudo-atoms whose reference positions and weights
    are learnt as well.

    What moves is blurred in the consensus, and part of it lies below the threshold: pseudo-atoms
    drawn from the map have too little weight there, and would have to move too far to explain the
    images. So the weights are learnt, as in the paper, from a log-normal prior about those given
    (15 % wide).

    Parameters
    ----------
    reference
        (n_points, 3) pseudo-atoms in Å, the centre of the box at zero.
    latent_dim
        Number of latent dimensions.
    fold_weight
        Weight of the penalty on places where the field folds space over or compresses it to less
        than 0.2 of its volume, in nats for each Gaussian; 0: none. What folds has no inverse.
    """

    anchor: Tensor
    unmodelled = Unmodelled(residue_fraction=0.15, collective_fraction=0.05, floor_angstrom=0.1)

    def __init__(
        self, reference: Float[Tensor, "p 3"], latent_dim: int, fold_weight: float = 3.0
    ) -> None:
        super().__init__(reference, latent_dim, learns_reference=True)
        self.fold_weight = fold_weight
        self.register_buffer("anchor", torch.zeros(latent_dim))
        self.log_weight = nn.Parameter(
            torch.zeros(len(reference))
        )  # in standard deviations of its prior

    def turn(self, basis: Float[Tensor, "d e"]) -> None:
        """See `Motion.turn`; where the field vanishes is turned, too."""
        super().turn(basis)
        self.anchor = torch.linalg.pinv(basis) @ self.anchor

    @abstractmethod
    def displacement(
        self, z: Float[Tensor, "k d"], points: Float[Tensor, "q 3"]
    ) -> Float[Tensor, "k q 3"]:
        """δ(z, x) − δ(anchor, x) in Å, at any points."""

    def move(
        self,
        z: Float[Tensor, "k d"],
        points: Float[Tensor, "q 3"],
        owner: Int[Tensor, " q"] | None = None,
    ) -> Float[Tensor, "k q 3"]:
        """Move points with the field where they are; it is the same for all owners."""
        del owner
        return points + self.displacement(z, points)

    def strain(
        self, z: Float[Tensor, "k d"], generator: torch.Generator
    ) -> Float[Tensor, " k"] | None:
        """Charge for folds: the square of what is missing to 0.2 of the volume, at random places
        near the molecule.
        """
        if self.fold_weight == 0:
            return None
        chosen = torch.randint(len(self.reference), (_PLACES_WATCHED,), generator=generator)
        offset = _WATCHED_DISTANCE_ANGSTROM * torch.randn(_PLACES_WATCHED, 3, generator=generator)
        places = self.reference.detach()[chosen.to(z.device)] + offset.to(z)
        axes = _PROBE_ANGSTROM * torch.eye(3, dtype=z.dtype, device=z.device)
        probes = torch.cat([places[:, None], places[:, None] + axes], dim=1)
        moved = self.move(z, probes.flatten(0, 1)).unflatten(1, (_PLACES_WATCHED, 4))
        edges = (moved[..., 1:, :] - moved[..., :1, :]) / _PROBE_ANGSTROM
        volume = (torch.linalg.cross(edges[..., 0, :], edges[..., 1, :]) * edges[..., 2, :]).sum(-1)
        missing = (_LARGEST_COMPRESSION - volume).clamp_min(0.0)
        return self.fold_weight * len(self.reference) * missing.square().mean(1)

    def bead_weight(self) -> Float[Tensor, " p"]:
        """Factor on the amplitude of each pseudo-atom."""
        return torch.exp(_LOG_WEIGHT_STD * self.log_weight)

    def divergence(self) -> Float[Tensor, ""]:
        """Negative log-density of the weights under their prior, but for a constant."""
        return 0.5 * self.log_weight.square().sum()

    @torch.no_grad()
    def replace_reference(self, z: Float[Tensor, " d"]) -> None:
        """Make the state at z the reference: its positions become y⁰, and the field vanishes at z
        from now on.
        """
        self.reference.copy_(self(z[None])[0])
        self.anchor.copy_(z)

    def structural_parameters(self) -> Iterator[nn.Parameter]:
        """Return reference positions and weights."""
        yield from (p for name, p in self.named_parameters() if name in {"reference", "log_weight"})


class SeparableField(FieldMotion):
    """δ(z, x) = Σ_m w_m(x) [R_m(z) (x − p_m) + p_m + t_m(z) − x]: parts that move rigidly, blended
    smoothly.

    In the form Σ_k a_k(z) φ_k(x), the φ are the blending weights w_m(x) and their products with the
    components of x, the a translations and the entries of R_m − 1. The weights are normalised
    Gaussians about learnt centres: a partition of unity, so that what lies outside all parts moves
    with the nearest, and between two the field turns from one rigid motion to the other over a
    distance of the order of the parts' size. What moves rigidly keeps its distances exactly,
    however far it turns; eq. 13 has only the boundaries left to restrain.

    Parameters
    ----------
    reference, latent_dim, fold_weight
        As for `FieldMotion`.
    n_parts
        Number of parts; none: `default_n_parts`.
    decoder_width
        Width of the hidden layers of the decoder network.
    """

    start: Tensor
    spacing: Tensor
    pivots: Tensor
    radius: Tensor

    def __init__(
        self,
        reference: Float[Tensor, "p 3"],
        latent_dim: int,
        *,
        n_parts: int | None = None,
        decoder_width: int = 128,
        fold_weight: float = 3.0,
    ) -> None:
        super().__init__(reference, latent_dim, fold_weight)
        count = min(n_parts or default_n_parts(len(reference)), len(reference))
        centres, owner = spread_centres(reference, count)
        radius = torch.stack(
            [
                (reference[owner == m] - centres[m]).square().sum(1).mean().sqrt()
                for m in range(count)
            ]
        )
        distance = torch.cdist(centres, centres).fill_diagonal_(torch.inf).min(1).values
        self.register_buffer("start", centres)
        self.register_buffer("spacing", distance.where(distance.isfinite(), torch.tensor(20.0)))
        self.register_buffer("pivots", centres.clone())
        self.register_buffer("radius", radius.clamp_min(_FEWEST_RADIUS_ANGSTROM))
        self.offset = nn.Parameter(torch.zeros(count, 3))
        self.log_width = nn.Parameter(torch.zeros(count))
        self.decoder = latent_network(latent_dim, decoder_width, 6 * count)

    @property
    def latent_layer(self) -> nn.Linear:
        """See `Motion.latent_layer`."""
        return first_layer(self.decoder)

    def weights(self, points: Float[Tensor, "q 3"]) -> Float[Tensor, "q m"]:
        """Blending weights w_m of the parts at any points, rows adding up to 1."""
        return blending_weights(points, *self._gaussians())

    def _gaussians(self) -> tuple[Float[Tensor, "m 3"], Float[Tensor, " m"]]:
        """Centre and sharpness, ½ over the squared width, of the Gaussian of each part."""
        centres = self.start + self.spacing[:, None] * self.offset
        width = (
            0.5 * self.spacing * torch.exp(_LARGEST_LOG * torch.tanh(self.log_width / _LARGEST_LOG))
        )
        return centres, 0.5 / width**2

    def transforms(
        self, z: Float[Tensor, "k d"]
    ) -> tuple[Float[Tensor, "k m 3"], Float[Tensor, "k m 3"]]:
        """Rotation vectors (radians) and translations (Å) of the parts about `pivots`; zero at the
        anchor.
        """
        output = self.decoder(torch.cat([z, self.anchor[None]]))
        output = (output[:-1] - output[-1:]).reshape(len(z), -1, 6)
        return output[..., :3] / self.radius[:, None], output[..., 3:]

    def displacement(
        self, z: Float[Tensor, "k d"], points: Float[Tensor, "q 3"]
    ) -> Float[Tensor, "k q 3"]:
        """See `FieldMotion.displacement`."""
        rotation, translation = self.transforms(z)
        # Σ_m w_m [t_m + (R_m − 1) (x − p_m)] = Σ_m w_m [s_m + (R_m − 1) x], so that only w depends
        # on place and part
        coefficients = rigid_maps(rotation, translation, self.pivots)  # (k, 3, m, 4): a of each φ
        basis = blended_basis(points, *self._gaussians())  # (q, m, 4)
        # one coordinate after the other, as the renderer reads them: nothing has to be put in
        # another order
        by_axis = coefficients.flatten(2).flatten(0, 1) @ basis.flatten(1).T  # (k · 3, q)
        return by_axis.reshape(len(z), 3, len(points)).mT

    def memberships(self) -> Float[Tensor, "p m"]:
        """Blending weights of the parts at the reference points."""
        return self.weights(self.reference)


class CoordinateField(FieldMotion):
    """The paper's decoder: eight linear layers with ELU and an additive residual, from latent and
    place (eq. 9).

    The positional encoding is sines and cosines of x, y and z at `n_frequencies` frequencies. The
    paper lets them rise by octaves from the box; here they end at one wave in 16 Å, since a field
    that changes over less tears neighbours apart. What it adds to the first layer does not depend
    on z and is worked out once for all latent positions.

    Parameters
    ----------
    reference, latent_dim, fold_weight
        As for `FieldMotion`.
    decoder_width
        Width of the layers.
    n_frequencies
        Number of frequencies of the positional encoding.
    """

    frequency: Tensor

    def __init__(
        self,
        reference: Float[Tensor, "p 3"],
        latent_dim: int,
        *,
        decoder_width: int = 128,
        n_frequencies: int = 10,
        fold_weight: float = 3.0,
    ) -> None:
        super().__init__(reference, latent_dim, fold_weight)
        waves = np.geomspace(_LONGEST_WAVE_ANGSTROM, _SHORTEST_WAVE_ANGSTROM, n_frequencies)
        self.register_buffer(
            "frequency", torch.as_tensor(2.0 * math.pi / waves, dtype=torch.float32)
        )
        self.of_place = nn.Linear(6 * n_frequencies, decoder_width)
        self.of_latent = nn.Linear(latent_dim, decoder_width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(decoder_width, decoder_width) for _ in range(6))
        self.last = nn.Linear(decoder_width, 3, bias=False)
        nn.init.normal_(self.last.weight, std=INITIAL_SIZE / decoder_width**0.5)
        self.activation = nn.ELU()

    @property
    def latent_layer(self) -> nn.Linear:
        """See `Motion.latent_layer`."""
        return self.of_latent

    def displacement(
        self, z: Float[Tensor, "k d"], points: Float[Tensor, "q 3"]
    ) -> Float[Tensor, "k q 3"]:
        """See `FieldMotion.displacement`."""
        phase = (points[:, :, None] * self.frequency).flatten(1)
        place = self.of_place(torch.cat([phase.sin(), phase.cos()], dim=1))
        value = self.activation(place + self.of_latent(torch.cat([z, self.anchor[None]]))[:, None])
        for layer in self.hidden:
            value = self.activation(layer(value))
        output = self.last(value)
        return output[:-1] - output[-1:]

    def memberships(self) -> Float[Tensor, "p m"]:
        """Nearest of as many evenly spread centres as the separable field would have parts: the
        field has none.
        """
        points = self.reference.detach().cpu()
        _, owner = spread_centres(points, default_n_parts(len(points)))
        return nn.functional.one_hot(owner).to(self.reference)
