"""Bond lengths and angles along an interpolated path, restored where interpolation squeezed
them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

_LONGEST_BOND_ANGSTROM = 2.1
_ITERATIONS = 150


def restore_geometry(
    states: NDArray[np.float64], fractions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give each state of a path the bond lengths and angles that lie between those of its two ends.

    A side chain or peptide plane that is flipped between the ends is squeezed half way by any
    interpolation of positions. Every distance between bonded atoms, or atoms bonded to a common
    one, is moved towards (1 − f) d(start) + f d(end) by displacing its two atoms alike, over and
    over (Jacobi iterations of position-based constraints). The ends stay as they are.

    Parameters
    ----------
    states
        (n_states, n_atoms, 3) Å; the first and the last are the ends.
    fractions
        (n_states,) in [0, 1], the way gone in each.

    Returns
    -------
    ndarray
        (n_states, n_atoms, 3) Å.
    """
    pairs = _bonded_pairs(states[0])
    lengths = [
        np.linalg.norm(end[pairs[:, 0]] - end[pairs[:, 1]], axis=1)
        for end in (states[0], states[-1])
    ]
    target = (1 - fractions)[:, None] * lengths[0] + fractions[:, None] * lengths[1]
    incidence = _incidence(pairs, states.shape[1])
    # Halving the mean keeps simultaneous corrections of one atom from overshooting.
    share = 0.5 / np.maximum(np.abs(incidence).sum(axis=1), 1)
    restored = states.copy()
    for _ in range(_ITERATIONS):
        vector = restored[:, pairs[:, 0]] - restored[:, pairs[:, 1]]
        length = np.maximum(np.linalg.norm(vector, axis=-1), 1e-6)
        correction = ((target - length) / length)[..., None] * vector
        restored += share[:, None] * np.stack([incidence @ change for change in correction])
    return restored


def _bonded_pairs(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n_pairs, 2) atoms that are bonded, or bonded to a common atom."""
    bonds = cKDTree(positions).query_pairs(_LONGEST_BOND_ANGSTROM, output_type="ndarray")
    n_atoms = len(positions)
    ones = np.ones(len(bonds))
    bonded = coo_array((ones, (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms)).tocsr()
    bonded = bonded + bonded.T
    near = (bonded + bonded @ bonded).tocoo()
    upper = near.row < near.col
    return np.stack([near.row[upper], near.col[upper]], axis=1).astype(np.int64)


def _incidence(pairs: NDArray[np.int64], n_atoms: int) -> csr_array:
    """(n_atoms, n_pairs) sparse: +1 for the first atom of a pair, −1 for the second."""
    column = np.arange(len(pairs))
    signs = np.concatenate([np.ones(len(pairs)), -np.ones(len(pairs))])
    place = (np.concatenate([pairs[:, 0], pairs[:, 1]]), np.concatenate([column, column]))
    return coo_array((signs, place), shape=(n_atoms, len(pairs))).tocsr()
