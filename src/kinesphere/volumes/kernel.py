"""Volumes at places of the latent space from the images near them, without the structures: weighted
backprojection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import fft

from kinesphere.reconstruction.backprojection import HalfSums, homogeneous_map
from kinesphere.reconstruction.fourier_volume import FourierVolume, shell_of_volume
from kinesphere.reconstruction.images import WeightedImages

_IMAGES_AT_ONCE = 64
_LEAST_WEIGHT = 1e-3
_BANDWIDTHS = (1e-4, 1e4)
_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class Kernel:
    """Weights of images at one place of the latent space.

    Parameters
    ----------
    weight
        (n,) between 0 and 1, the largest 1.
    bandwidth
        h, in standard deviations of the latents.
    """

    weight: Float[np.ndarray, " n"]
    bandwidth: float

    @property
    def n_effective(self) -> float:
        """(Σ w)² / Σ w²: how many equally weighted images are as many."""
        return effective_number(self.weight)


def effective_number(weight: Float[np.ndarray, " n"]) -> float:
    """Kish's effective number of weighted samples, (Σ w)² / Σ w²."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def kernel_weights(
    mean: Float[np.ndarray, "n d"],
    covariance: Float[np.ndarray, "n d d"],
    target: Float[np.ndarray, " d"],
    bandwidth: float,
) -> Float[np.ndarray, " n"]:
    """Weight each image by the probability density of its latent at the target, blurred by the
    bandwidth.

    w_i ∝ N(z*; m_i, C_i + h² P), with m_i and C_i the posterior of image i and P the covariance of
    all means. The normalisation of the density keeps images with a broad posterior, which are near
    everything, from prevailing. Kernel regression over latents is that of RECOVAR (Gilles & Singer
    2025, doi:10.1073/pnas.2419140122).

    Parameters
    ----------
    mean, covariance
        Posterior means and covariances of the images of one half set.
    target
        z*.
    bandwidth
        h, without unit.

    Returns
    -------
    ndarray
        (n,) the largest is 1.
    """
    d = mean.shape[1]
    spread = np.cov(mean.astype(np.float64), rowvar=False).reshape(d, d)
    floor = 1e-12 * max(float(np.trace(spread)), np.finfo(float).tiny)
    blurred = covariance.astype(np.float64) + bandwidth**2 * spread + floor * np.eye(d)
    offset = target - mean.astype(np.float64)
    distance = np.einsum("ni,ni->n", offset, np.linalg.solve(blurred, offset[..., None])[..., 0])
    log_weight = -0.5 * (distance + np.linalg.slogdet(blurred)[1])
    weight: Float[np.ndarray, " n"] = np.exp(log_weight - log_weight.max())
    return weight


def fit_kernel(
    mean: Float[np.ndarray, "n d"],
    covariance: Float[np.ndarray, "n d d"],
    target: Float[np.ndarray, " d"],
    fraction: float,
) -> Kernel:
    """Choose the bandwidth so that the effective number of images is a given fraction of all.

    Parameters
    ----------
    mean, covariance, target
        As for `kernel_weights`.
    fraction
        Above 0, at most 1.

    Returns
    -------
    Kernel
        Of the least bandwidth where errors of the latents alone give that many images weight
        already.
    """
    if fraction >= 1.0:
        return Kernel(np.ones(len(mean)), np.inf)
    low, high = np.log(_BANDWIDTHS)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        weight = kernel_weights(mean, covariance, target, float(np.exp(middle)))
        if effective_number(weight) < fraction * len(mean):
            low = middle
        else:
            high = middle
    bandwidth = float(np.exp(high))
    return Kernel(kernel_weights(mean, covariance, target, bandwidth), bandwidth)


def kernel_map(
    images: WeightedImages,
    rows: Int[np.ndarray, " images"],
    weight: Float[np.ndarray, " images"],
    advance: Callable[[int], None] = lambda _: None,
) -> Float[np.ndarray, "n n n"]:
    """Backproject the weighted images of one half set, without motion; images of next to no weight
    are left out.

    Per Fourier coefficient, V(z*) = Σ w_i CTF_i y_i / σ² over Σ w_i CTF_i² / σ². With equal weights
    of one it is the homogeneous map.

    Parameters
    ----------
    images
        Weighted by CTF and noise.
    rows, weight
        Particles of the half set, and their weights.
    advance
        Called with the number of images done since the last call; an exception there leaves.

    Returns
    -------
    ndarray
        (n, n, n) `[z, y, x]`, neither masked nor filtered.
    """
    volume = FourierVolume(images.grid.box)
    kept: NDArray[np.intp] = np.flatnonzero(weight > _LEAST_WEIGHT * weight.max())
    for start in range(0, len(kept), _IMAGES_AT_ONCE):
        part = kept[start : start + _IMAGES_AT_ONCE]
        batch = images.batch(rows[part])
        of_image = batch.precision.new_tensor(weight[part])[:, None, None]
        volume.insert(batch.data * of_image, batch.precision * of_image, batch.rotation)
        advance(len(part))
    return homogeneous_map(HalfSums(volume, np.zeros(0))).astype(np.float32)


def toward_consensus(
    kernel: Float[np.ndarray, "n n n"],
    consensus: Float[np.ndarray, "n n n"],
    difference_fsc: Float[np.ndarray, " shells"],
) -> Float[np.ndarray, "n n n"]:
    """Keep of the difference from the consensus what two half sets agree on, shell by shell.

    The consensus of all images knows fine detail that all states share far better than the few
    images of one state do. Per shell, V = C + W · (K − C) with the Wiener weight W = 2F / (1 + F),
    F the FSC of the two half sets' differences: the power of a difference is F of what one half set
    shows, and of the mean of the two 2F / (1 + F) (as for maps, Rosenthal & Henderson 2003,
    doi:10.1016/j.jmb.2003.07.013).

    Parameters
    ----------
    kernel, consensus
        (n, n, n) maps of both half sets.
    difference_fsc
        (n // 2,) F; below 0 counts as 0. Shells beyond take the consensus.

    Returns
    -------
    ndarray
        (n, n, n).
    """
    result: NDArray[np.float64] = consensus + filter_shells(
        kernel - consensus, wiener_weight(difference_fsc)
    )
    return result.astype(np.float32)


def wiener_weight(fsc: Float[np.ndarray, "*curves shells"]) -> Float[np.ndarray, "*curves shells"]:
    """Give the part of the mean of two half sets that is signal, 2F / (1 + F); F below 0 counts as
    0.
    """
    agreed = np.clip(fsc, 0.0, 1.0)
    return 2.0 * agreed / (1.0 + agreed)


def filter_shells(
    density: Float[np.ndarray, "n n n"], weight: Float[np.ndarray, " shells"]
) -> NDArray[np.float64]:
    """Multiply each shell s of a map by weight[s]; shells beyond (n // 2,) go."""
    box = density.shape[0]
    gain = np.append(weight, 0.0)[np.minimum(shell_of_volume(box, box), box // 2)]
    filtered: NDArray[np.float64] = fft.irfftn(
        fft.rfftn(density.astype(np.float64)) * gain, s=density.shape
    )
    return filtered
