"""Optional priors on structures: keep the chain whole and residues apart.

After section 3.6 of the cryoSPHERE paper and Rosenbaum et al. 2021.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

_HUBER_ANGSTROM = 0.3
_LONGEST_BOND_ANGSTROM = 9.0


class Restraints:
    """Continuity and clash energies of residue centres, per structure; both are zero on the nominal model.

    Parameters
    ----------
    reference
        (n_points, 3) nominal residue centres in Å.
    chain
        (n_points,) chain of each; bonds stay within chains.
    continuity, clash
        Weights; zero switches a term off.
    clash_distance_angstrom
        Residue centres nearer than this clash (4 Å in the paper's figure 7).
    """

    def __init__(
        self,
        reference: Float[Tensor, "p 3"],
        chain: Int[Tensor, " p"],
        *,
        continuity: float = 0.0,
        clash: float = 0.0,
        clash_distance_angstrom: float = 4.0,
    ) -> None:
        self.continuity, self.clash, self.clash_distance = continuity, clash, clash_distance_angstrom
        self._bonds = _bonds(reference, chain)
        self._bond_length = _distance(reference, self._bonds)
        near = _neighbours(reference, clash_distance_angstrom)
        # what is that close in the nominal model is not a clash that motion made
        self._never = {tuple(pair) for pair in near.tolist()} | {tuple(pair) for pair in self._bonds.tolist()}

    @property
    def active(self) -> bool:
        """Whether any term has a weight."""
        return self.continuity > 0 or self.clash > 0

    def energy(self, positions: Float[Tensor, "k p 3"]) -> Float[Tensor, " k"]:
        """Weighted energy of each structure, in nats."""
        total = positions.new_zeros(len(positions))
        if self.continuity > 0:
            total = total + self.continuity * self.continuity_energy(positions)
        if self.clash > 0:
            total = total + self.clash * self.clash_energy(positions)
        return total

    def continuity_energy(self, positions: Float[Tensor, "k p 3"]) -> Float[Tensor, " k"]:
        """Sum over bonds of Huber's function of the change in length, (k,) in Å².

        Quadratic up to 0.3 Å and linear beyond: strays that images hardly resolve are held back, at a price for real
        distortions of the chain that stays small.
        """
        change = (_distance(positions, self._bonds) - self._bond_length.to(positions.device)).abs()
        core = change.clamp_max(_HUBER_ANGSTROM)
        return (core * (2.0 * change - core)).sum(-1)

    def clash_energy(self, positions: Float[Tensor, "k p 3"]) -> Float[Tensor, " k"]:
        """Sum over clashing pairs of the squared overlap, (k,) in Å²; from a neighbour search, 0 without clashes."""
        energies = []
        for structure in positions:
            pairs = _neighbours(structure.detach(), self.clash_distance)
            pairs = torch.tensor([p for p in pairs.tolist() if tuple(p) not in self._never], dtype=torch.int64)
            overlap = self.clash_distance - _distance(structure, pairs.reshape(-1, 2))
            energies.append((overlap.clamp_min(0.0) ** 2).sum())
        return torch.stack(energies)


def _bonds(reference: Tensor, chain: Tensor) -> Tensor:
    """Pairs of neighbours in a chain; a gap in the model is no bond."""
    first = torch.nonzero(chain[1:] == chain[:-1])[:, 0]
    pairs = torch.stack([first, first + 1], dim=1)
    return pairs[_distance(reference, pairs) < _LONGEST_BOND_ANGSTROM]


def _neighbours(points: Tensor, radius: float) -> Tensor:
    pairs = cKDTree(points.cpu().numpy()).query_pairs(radius, output_type="ndarray").astype(np.int64)
    return torch.from_numpy(np.sort(pairs, axis=1))


def _distance(points: Tensor, pairs: Tensor) -> Tensor:
    offset = points[..., pairs[:, 0], :] - points[..., pairs[:, 1], :]
    return torch.sqrt((offset**2).sum(-1) + 1e-12)
