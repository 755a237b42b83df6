"""Deformed backprojection of one half set: sums over its images, and the map that follows from them
(eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from kinesphere.kernels.voxels import Views
from kinesphere.ranks import ALONE, Ranks
from kinesphere.reconstruction.displacement import DisplacementField
from kinesphere.reconstruction.fourier_volume import (
    FourierVolume,
    apodisation_of_box,
    deconvolve,
    homogeneous_filter,
)
from kinesphere.reconstruction.images import WeightedImages
from kinesphere.reconstruction.masks import sphere_mask
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.support import Support

_OVERSAMPLED_PIXELS_AT_ONCE = 1 << 20
_NODES_A_MOTION_CALL = 1 << 21
_BLEND_PX = 2.0
_LEAST_SAMPLED = 0.1
_SPHERE_EDGE_PX = 3.0


@dataclass(eq=False)
class HalfSums:
    """What one sweep over the images adds up.

    Parameters
    ----------
    volume
        Slices in Fourier space: the backprojection without motion, and the sampling.
    pulled
        (n_voxels,) float64: the backprojection along the motion, on the voxels of the support.
    n_images
        Images that are in the sums.
    """

    volume: FourierVolume
    pulled: Float[np.ndarray, " voxels"]
    n_images: int = 0

    def tensors(self) -> list[Tensor]:
        """Return the sums themselves, as what several ranks add up."""
        return [torch.from_numpy(self.volume.sums), torch.from_numpy(self.pulled)]

    def clear(self) -> None:
        """Go back to zero, but for the number of images: another rank has the sums."""
        for total in self.tensors():
            total.zero_()

    @classmethod
    def empty(cls, support: Support) -> HalfSums:
        """Start from zero."""
        return cls(FourierVolume(support.grid.box), np.zeros(support.n_voxels))


@dataclass(eq=False)
class Sweep:
    """The images of one half set, with their motion: what every pass over the data needs.

    Parameters
    ----------
    images
        Weighted images.
    rows
        (n,) particles of the half set.
    projector
        A and Aᵀ.
    motion
        Displacements of the support's nodes.
    ranks
        Who shares the images.
    advance
        Called with the number of images that all ranks have done since the last call.
    """

    images: WeightedImages
    rows: Int[np.ndarray, " n"]
    projector: DeformedProjector
    motion: DisplacementField
    ranks: Ranks = ALONE
    advance: Callable[[int], None] = field(default=lambda _: None)

    def views(self, rotation: Float[Tensor, "b 3 3"], seen: Float[Tensor, "b nodes 2"]) -> Views:
        """How these images look at the support, given displacements of its nodes as they show
        them.
        """
        device = self.projector.device
        return self.projector.views_of_seen(rotation.to(device), seen.to(device))

    def batches(self, first: int = 0) -> Iterator[tuple[NDArray[np.int64], Tensor, int]]:
        """Serve rows from the given one on, with what they show of the nodes' motion, in pieces
        that fit the caches.

        Yields this rank's share of each piece, which may be empty, and the number of rows of all
        ranks in it.
        """
        n_ranks = self.ranks.size
        size = max(_OVERSAMPLED_PIXELS_AT_ONCE // self.projector.size**2, 1)
        n_called = max(_NODES_A_MOTION_CALL // self.projector.support.n_nodes, 1)
        for start in range(first, len(self.rows), n_called * n_ranks):
            chunk = self.rows[start : start + n_called * n_ranks]
            own = self.ranks.share(chunk)
            seen = self.motion.seen(own, self.images.rotation(own))
            for part in range(0, -(-len(chunk) // n_ranks), size):
                n_rows = len(chunk[part * n_ranks : (part + size) * n_ranks])
                yield own[part : part + size], seen[part : part + size], n_rows


def accumulate(
    sweep: Sweep, sums: HalfSums, after_batch: Callable[[], None] = lambda: None
) -> None:
    """Add the images that are not in the sums yet, each rank its share.

    Parameters
    ----------
    sweep
        The half set.
    sums
        Changed in place; `n_images` says where to go on, and counts the images of all ranks.
    after_batch
        Called after each batch, for checkpoints.
    """
    for rows, seen, n_rows in sweep.batches(sums.n_images):
        if len(rows) > 0:
            batch = sweep.images.batch(rows)
            sums.volume.insert(batch.data, batch.precision, batch.rotation)
            data = batch.data.to(sweep.projector.device)
            sums.pulled += (
                sweep.projector.backproject(data, sweep.views(batch.rotation, seen)).cpu().numpy()
            )
        sums.n_images += n_rows
        sweep.advance(n_rows)
        after_batch()


def blend_weight(support: Support) -> Float[np.ndarray, "n n n"]:
    """How much of a map comes from the support: one inside, falling to zero over its outermost two
    voxels.
    """
    depth = np.clip(ndimage.distance_transform_edt(support.inside) / _BLEND_PX, 0.0, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * depth)).astype(np.float32)


def homogeneous_map(sums: HalfSums) -> Float[np.ndarray, "n n n"]:
    """Map without motion: the inserted slices divided by their sampling, inside the sphere that the
    box holds.
    """
    box = sums.volume.box
    gain = homogeneous_filter(sums.volume.sampling(), box)
    return deconvolve(sums.volume.backprojection(), gain, box) * sphere_mask(
        box, box / 2 + _SPHERE_EDGE_PX, _SPHERE_EDGE_PX
    )


def deformed_map(sums: HalfSums, support: Support) -> Float[np.ndarray, "n n n"]:
    """Map of the reference state: eq. 7 with D taken as without motion, which is diagonal in
    Fourier space.

    The backprojection along the motion is known on the support. Outside it, where nothing is known
    to move, the one without motion takes its place, so that the filter, whose response reaches far,
    finds no edge there, and the map's solvent is as noisy as it should be for what judges half maps
    by it.

    Motion and the limits of the support carry signal to where no slice lies. The filter is
    therefore bounded to ten times that of the shell: with a few views only, dividing by the
    sampling as it is would make noise of that signal.

    Parameters
    ----------
    sums
        Of all images of a half set.
    support
        Where `sums.pulled` lies.

    Returns
    -------
    ndarray
        (n, n, n) float32 `[z, y, x]`, not filtered by its signal-to-noise ratio.
    """
    box = sums.volume.box
    backprojected = sums.volume.backprojection()
    index = np.ix_(*(np.arange(box) - box // 2,) * 3)
    pulled = support.embed(sums.pulled.astype(np.float32)) * apodisation_of_box(box)
    weight = blend_weight(support)
    backprojected[index] = weight * pulled + (1.0 - weight) * backprojected[index]
    density = deconvolve(
        backprojected, homogeneous_filter(sums.volume.sampling(), box, _LEAST_SAMPLED), box
    )
    return density * sphere_mask(box, box / 2 + _SPHERE_EDGE_PX, _SPHERE_EDGE_PX)
