"""Make a model for `kinesphere segments` out of a density map alone, where no atomic model is at
hand.

    python examples/03_pseudo_atomic_model.py consensus.mrc model.pdb --spacing-angstrom 25

Pseudo-residues are spread evenly over the largest connected density and threaded on one short path,
which is cut into chains where it has to jump. The segments found on such a model are regions of the
map, not stretches of a real chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.cluster import MiniBatchKMeans

from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.io.structure import AtomicModel, write_model

CHAIN_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LONGEST_STEP = 3.0  # in units of the median step; the path is cut where it jumps further
FINE = 3  # sub-voxels along an axis, so that coarse voxels do not fix the positions


@dataclass(frozen=True)
class Options:
    """What to make of which map."""

    map: tyro.conf.Positional[Path]
    """Consensus map."""
    out: tyro.conf.Positional[Path]
    """Model to write, in the frame of the map."""
    spacing_angstrom: float = 25.0
    """Distance between pseudo-residues: about the resolution of the map."""
    sigma: float = 4.0
    """Density counts from so many standard deviations (of the background) on."""


def main(options: Options) -> None:
    """Write the model, and say what it holds."""
    density = read_map(options.map)
    points, weights = dense_points(density, options.sigma)
    volume = len(points) * (density.pixel_size_angstrom / FINE) ** 3
    n_residues = max(round(volume / options.spacing_angstrom**3), 2)
    clusters = MiniBatchKMeans(n_residues, n_init=1, random_state=0).fit(
        points, sample_weight=weights
    )
    path = short_path(clusters.cluster_centers_)
    chains = cut(path)
    write_model(options.out, make_model(path, chains))
    print(
        f"{options.out}: {n_residues} pseudo-residues in {len(np.unique(chains))} chains, "
        f"{volume / 1000:,.0f} nm³"
    )


def dense_points(
    density: DensityMap, sigma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions (n, 3) in Å and densities (n,) of the sub-voxels in the largest region above
    the threshold.
    """
    fine = ndimage.zoom(density.data, FINE, order=1, grid_mode=True, mode="nearest")
    middle = np.median(fine)
    noise = 1.4826 * np.median(np.abs(fine - middle))
    region, _ = ndimage.label(fine > middle + sigma * noise)
    largest = np.bincount(region.ravel())[1:].argmax() + 1
    zyx = np.argwhere(region == largest)
    voxel = (zyx[:, ::-1] + 0.5) / FINE - 0.5
    return density.origin_angstrom + density.pixel_size_angstrom * voxel, fine[
        region == largest
    ].astype(np.float64)


def short_path(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Order points (n, 3) along a path: always to the nearest one left, then untangled by reversals
    (2-opt).
    """
    distance = cdist(points, points)
    order = [int(points[:, 0].argmin())]
    left = np.ones(len(points), dtype=bool)
    left[order[0]] = False
    while left.any():
        candidates = np.flatnonzero(left)
        order.append(int(candidates[distance[order[-1], candidates].argmin()]))
        left[order[-1]] = False
    chosen = np.array(order)
    while (stretch := best_reversal(distance[np.ix_(chosen, chosen)])) is not None:
        first, last = stretch
        chosen[first : last + 1] = chosen[first : last + 1][::-1]
    return points[chosen]


def best_reversal(distance: NDArray[np.float64]) -> tuple[int, int] | None:
    """Find the stretch of a path whose reversal shortens the path most, from the distances (n, n)
    in path order.
    """
    step = np.diagonal(distance, 1)
    # reversing i+1 … j replaces the steps after i and after j by i → j and i+1 → j+1
    gain = step[:, None] + step[None, :] - distance[:-1, :-1] - distance[1:, 1:]
    gain[np.tril_indices(len(gain))] = 0.0
    i, j = np.unravel_index(int(gain.argmax()), gain.shape)
    return (int(i) + 1, int(j)) if gain[i, j] > 1e-9 else None


def cut(path: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cut a path (n, 3) where it jumps; return the number of the piece that each point is in."""
    step = np.linalg.norm(np.diff(path, axis=0), axis=1)
    return np.concatenate([[0], np.cumsum(step > LONGEST_STEP * np.median(step))])


def make_model(path: NDArray[np.float64], chains: NDArray[np.int64]) -> AtomicModel:
    """Give every point a glycine's central atom."""
    n = len(path)
    names = np.array([CHAIN_NAMES[chain % len(CHAIN_NAMES)] for chain in chains])
    return AtomicModel(
        positions_angstrom=path,
        atomic_number=np.full(n, 6),
        atom_name=np.full(n, "CA"),
        alt_loc=np.full(n, ""),
        residue_index=np.arange(n),
        b_factor=np.zeros(n),
        occupancy=np.ones(n),
        residue_name=np.full(n, "GLY"),
        chain=names,
        insertion_code=np.full(n, ""),
        residue_number=np.arange(1, n + 1),
        residue_kind=np.full(n, "protein"),
        centre_atom=np.arange(n),
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
