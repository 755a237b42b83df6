"""Which domains of an atomic model are copies of one another, and where in the sequence that they
share each residue is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.io.structure import AtomicModel

_LEAST_OVERLAP = 0.8
_LEAST_IDENTITY = 0.95

_Number = tuple[int, str]
"""A residue's number and insertion code, ordered as along the chain."""


@dataclass(frozen=True)
class Copies:
    """Which domains are copies of one another.

    Parameters
    ----------
    family
        (n_points,) number of the family that each point's domain belongs to, from 0 in the order of
        the model; a domain without copies is a family of its own.
    place
        (n_points,) place of each point in the sequence of its family, from 0. Points of the same
        residue number in two copies have the same place; a copy that lacks residues skips theirs.
    """

    family: Int[Tensor, " p"]
    place: Int[Tensor, " p"]

    @classmethod
    def none(cls, domains: Int[Tensor, " p"]) -> Copies:
        """Every domain, (n_points,) labels, is a family of its own."""
        sizes = domains.unique_consecutive(return_counts=True)[1]
        first = sizes.cumsum(0) - sizes
        family = torch.arange(len(sizes)).repeat_interleave(sizes)
        return cls(family, torch.arange(len(domains)) - first[family])


@dataclass(frozen=True)
class _Domain:
    """Residues that follow each other in the model: rows of the points, what they are, and all
    numbers of their chain.
    """

    rows: NDArray[np.int64]
    names: dict[_Number, str]
    chain_numbers: frozenset[_Number]

    def is_copy_of(self, longer: _Domain) -> bool:
        """Tell whether the residues of two domains are the same, up to a few that one lacks."""
        shared = self.names.keys() & longer.names.keys()
        if len(shared) < _LEAST_OVERLAP * len(longer.rows):
            return False
        # What only one of two copies holds is missing from the other's chain. Where it belongs to
        # another domain of that chain, the user has divided the two chains differently.
        of_mine = self.names.keys() & longer.chain_numbers
        of_theirs = longer.names.keys() & self.chain_numbers
        if of_mine != shared or of_theirs != shared:
            return False
        n_same = sum(self.names[number] == longer.names[number] for number in shared)
        return n_same >= _LEAST_IDENTITY * len(shared) and self._is_in_order_of(longer)

    def _is_in_order_of(self, longer: _Domain) -> bool:
        """Tell whether one sequence of numbers can hold both; it is the longer domain's own, or
        that of growing numbers.
        """
        if len(self.names) < len(self.rows) or len(longer.names) < len(longer.rows):
            return False  # two residues of one number
        mine = list(self.names)
        theirs = list(longer.names)
        if mine == [number for number in theirs if number in self.names]:
            return True
        return mine == sorted(mine) and theirs == sorted(theirs)


def find_copies(
    model: AtomicModel, residue: Int[np.ndarray, " p"], domains: Int[np.ndarray, " p"]
) -> Copies | None:
    """Find the domains that are copies of one another.

    Two domains are copies if they are the same stretch of two chains by residue number, share at
    least 80 % of the numbers of the longer one, and at least 95 % of these have the same residue
    name: deposited models often lack a few residues of one copy that were not resolved. Chains
    whose numbers differ by an offset are not recognised.

    Parameters
    ----------
    model
        The atomic model.
    residue
        (n_points,) row of each point in the model's residue table.
    domains
        (n_points,) label of each point's chain, or of the range that the user gave.

    Returns
    -------
    Copies or None
        None where no two domains are alike.
    """
    families: list[list[_Domain]] = []
    # The longest come first: each domain is compared with the most complete copy of a family.
    for domain in sorted(_domains(model, residue, domains), key=lambda d: -len(d.rows)):
        known = next((f for f in families if domain.is_copy_of(f[0])), None)
        if known is None:
            families.append([domain])
        else:
            known.append(domain)
    if all(len(members) == 1 for members in families):
        return None
    family = torch.zeros(len(residue), dtype=torch.int64)
    place = torch.zeros(len(residue), dtype=torch.int64)
    families.sort(key=lambda members: min(int(domain.rows[0]) for domain in members))
    for number, members in enumerate(families):
        sequence = {name: at for at, name in enumerate(_common_sequence(members))}
        for domain in members:
            family[domain.rows] = number
            alone = len(members) == 1
            own = range(len(domain.rows)) if alone else [sequence[name] for name in domain.names]
            place[domain.rows] = torch.tensor(own)
    return Copies(family, place)


def _domains(
    model: AtomicModel, residue: NDArray[np.integer], domains: NDArray[np.integer]
) -> list[_Domain]:
    """Cut the points into domains, in the order of the model."""
    numbers = [
        (number, code.strip())
        for number, code in zip(
            model.residue_number[residue].tolist(),
            model.insertion_code[residue].tolist(),
            strict=True,
        )
    ]
    names = model.residue_name[residue].tolist()
    chain = model.chain[residue]
    of_chain = {
        label: frozenset(numbers[row] for row in np.flatnonzero(chain == label))
        for label in np.unique(chain).tolist()
    }
    cuts = np.flatnonzero(np.diff(domains)) + 1
    return [
        _Domain(
            rows=rows,
            names={numbers[row]: names[row] for row in rows},
            chain_numbers=of_chain[str(chain[rows[0]])],
        )
        for rows in np.split(np.arange(len(residue)), cuts)
    ]


def _common_sequence(members: list[_Domain]) -> list[_Number]:
    """List the residue numbers that occur in any of the copies, in the order of the chain."""
    longest = list(members[0].names)
    every = set().union(*(domain.names for domain in members))
    # The file's own order where one copy has them all: numbers need not grow along a chain.
    return longest if len(every) == len(longest) else sorted(every)
