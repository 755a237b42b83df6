"""Priors on structures: keep the chain whole and residues apart, or neighbouring pseudo-atoms at
their distances.

After section 3.6 of the cryoSPHERE paper and Rosenbaum et al. 2021; eqs. 12 to 14 of the DynaMight
paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from kinesphere.kernels.distances import pair_distances, strain_energy

_LONGEST_BOND_ANGSTROM = 9.0


class Restraint(ABC):
    """An energy of structures, in nats, that a run adds to its loss."""

    balance: float | None = None
    """Wanted ratio of the norms of the energy's and the data term's gradients; none: the energy's
    weight is fixed."""

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether any term has a weight."""

    @abstractmethod
    def energy(self, positions: Float[Tensor, "k p 3"]) -> Float[Tensor, " k"]:
        """Energy of each structure."""

    def follow(self, reference: Float[Tensor, "p 3"]) -> None:  # noqa: B027 - most references stay as they are
        """Take notice of where the reference points are now; called before every epoch."""

    def rescale(self, factor: float) -> None:  # noqa: B027 - most weights are fixed
        """Multiply the weight of the energy, where it is balanced."""

    def state(self) -> dict[str, Tensor]:
        """Return what changes in training, for a checkpoint."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - most never change
        """Go back to a state."""


class Restraints(Restraint):
    """Continuity and clash energies of residue centres, per structure; both are zero on the nominal
    model.

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
        self.continuity = continuity
        self.clash = clash
        self.clash_distance = clash_distance_angstrom
        self._bonds = _bonds(reference, chain)
        self._bond_length = pair_distances(reference[None], self._bonds)[0]
        near = _neighbours(reference, clash_distance_angstrom)
        # what is that close in the nominal model is not a clash that motion made
        self._never = {tuple(pair) for pair in near.tolist()} | {
            tuple(pair) for pair in self._bonds.tolist()
        }

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

        Quadratic up to 0.3 Å and linear beyond: strays that images hardly resolve are held back, at
        a price for real distortions of the chain that stays small.
        """
        return strain_energy(positions, self._bonds, self._bond_length.to(positions.device))

    def clash_energy(self, positions: Float[Tensor, "k p 3"]) -> Float[Tensor, " k"]:
        """Sum over clashing pairs of the squared overlap, (k,) in Å²; from a neighbour search, 0
        without clashes.
        """
        energies = []
        for structure in positions:
            pairs = _neighbours(structure.detach(), self.clash_distance)
            pairs = torch.tensor(
                [p for p in pairs.tolist() if tuple(p) not in self._never], dtype=torch.int64
            )
            overlap = self.clash_distance - pair_distances(structure[None], pairs.reshape(-1, 2))[0]
            energies.append((overlap.clamp_min(0.0) ** 2).sum())
        return torch.stack(energies)


class NeighbourRestraints(Restraint):
    """Distances between neighbouring pseudo-atoms as in the reference, and none of them too close
    (eqs. 12 to 14).

    Parameters
    ----------
    reference
        (n_points, 3) pseudo-atoms in Å.
    weight
        Weight in nats/Å² of the mean over edges of Huber's function of the change in length, times
        the number of points: of the energy of a molecule in which every point has one edge. So it
        does not depend on how many neighbours the graph gives.
    balance
        Ratio of the gradients' norms that sets the weight instead, as the paper does (0.9).
    edges
        (e, 2) bonds of an atomic model; none: the graph of eq. 12, built again as the reference
        changes.
    repulsion
        Whether eq. 14 is added; the paper leaves it out where bonds are given.
    """

    def __init__(
        self,
        reference: Float[Tensor, "p 3"],
        *,
        weight: float,
        balance: float | None = None,
        edges: Int[Tensor, "e 2"] | None = None,
        repulsion: bool = True,
    ) -> None:
        self.weight = weight
        self.balance = balance
        self.repulsion = repulsion and edges is None
        self._given = edges
        self.follow(reference)

    @property
    def active(self) -> bool:
        """Whether the energy has a weight."""
        return self.weight > 0

    def follow(self, reference: Float[Tensor, "p 3"]) -> None:
        """Build the graph on the reference as it is, and take its distances as those to be kept."""
        points = reference.detach()
        if self._given is None:
            self.edges, self.closest = neighbour_graph(points)
        else:
            self.edges = self._given.to(points.device)
            self.closest = 0.0
        self.length = pair_distances(points[None], self.edges)[0]

    def rescale(self, factor: float) -> None:
        """Multiply the weight."""
        self.weight *= factor

    def state(self) -> dict[str, Tensor]:
        """Return weight, edges, their lengths and τ."""
        return {
            "weight": torch.tensor(self.weight, dtype=torch.float64),
            "closest": torch.tensor(self.closest, dtype=torch.float64),
            "edges": self.edges,
            "length": self.length,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a state."""
        self.weight = float(state["weight"])
        self.closest = float(state["closest"])
        self.edges = state["edges"]
        self.length = state["length"]

    def energy(self, positions: Float[Tensor, "k p 3"]) -> Float[Tensor, " k"]:
        """Weighted sum of eqs. 13 and 14, per point: (k,).

        The paper squares changes of length; here they count with Huber's function, as bonds do in
        `Restraints`. A hinge may then be sharp while what lies on either side stays rigid: measured
        on adenylate kinase and an antibody, errors without the mean fall by 3% and 10%.
        """
        edges = self.edges.to(positions.device)
        kept = self.length.to(positions.device)
        # of pairs that the reference has closer than τ only the approach counts, or it would pull
        # at the reference
        nearest = kept.clamp_max(self.closest) if self.repulsion else None
        total = strain_energy(positions, edges, kept, nearest)
        return self.weight * positions.shape[1] * total / max(len(edges), 1)


def neighbour_graph(points: Float[Tensor, "p 3"]) -> tuple[Int[Tensor, "e 2"], float]:
    """Connect points closer than 1.5 times the mean distance of the two nearest neighbours (eq.
    12).

    Returns
    -------
    tuple
        (e, 2) edges, the smaller index first, and c_mean, that mean distance in Å (τ of eq. 14).
    """
    places = points.cpu().double().numpy()
    tree = cKDTree(places)
    nearest = tree.query(places, min(3, len(places)))[0][:, 1:]
    mean = float(nearest.mean()) if nearest.size else 0.0
    edges = tree.query_pairs(1.5 * mean, output_type="ndarray").astype(np.int64)
    return torch.from_numpy(np.sort(edges.reshape(-1, 2), axis=1)).to(points.device), mean


def _bonds(reference: Tensor, chain: Tensor) -> Tensor:
    """Pairs of neighbours in a chain; a gap in the model is no bond."""
    first = torch.nonzero(chain[1:] == chain[:-1])[:, 0]
    pairs = torch.stack([first, first + 1], dim=1)
    return pairs[pair_distances(reference[None], pairs)[0] < _LONGEST_BOND_ANGSTROM]


def _neighbours(points: Tensor, radius: float) -> Tensor:
    pairs = (
        cKDTree(points.cpu().numpy()).query_pairs(radius, output_type="ndarray").astype(np.int64)
    )
    return torch.from_numpy(np.sort(pairs, axis=1))
