"""Populations with the noise of single images taken out, and how far they are known.

Counting images where their noise puts them broadens every peak and fills every valley. What an
image says of its conformation is a likelihood L_i(z); the population that explains all images best
maximises Σ_i log Σ_k w_k L_i(z_k) over weights w of nodes z_k (the nonparametric maximum likelihood
of a mixing distribution; Kiefer & Wolfowitz 1956, Laird 1978), by expectation-maximisation. Left to
itself that sharpens every population into spikes: each round therefore smooths the weights
(Silverman et al. 1990, EMS) by 0.4 of the error of a typical image, which is the finest detail
shown. Intervals are those of resampled images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.analysis.latent import standard_steps
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.halves import images_by_model

_BINS = 36
_NODES = 400
_IMAGES = 20_000
_ROUNDS = 50
_DETAIL = 0.4  # of the error of a typical image
_RESAMPLED = 40
_INTERVAL_PERCENT = (5.0, 95.0)
_LARGEST_EXPONENT = 80.0


@dataclass(frozen=True)
class Fraction:
    """Part of the molecules in some region: deconvolved, its 90 % interval, and what counting
    gives.
    """

    value: float
    low: float
    high: float
    counted: float


@dataclass(frozen=True)
class Population:
    """Weighted nodes of the latent space.

    Parameters
    ----------
    nodes
        (k, d) latent positions.
    half
        (k,) half set in whose latent space a node lies.
    weight
        (k,) adds up to 1.
    resampled
        (b, k) the same from resampled images.
    """

    nodes: Float[np.ndarray, "k d"]
    half: Int[np.ndarray, " k"]
    weight: Float[np.ndarray, " k"]
    resampled: Float[np.ndarray, "b k"]

    def fraction(self, inside: Shaped[np.ndarray, " k"], counted: float) -> Fraction:
        """Add up the nodes inside a region; `counted` is the part of the images whose means lie
        there.
        """
        low, high = np.percentile(self.resampled @ inside, _INTERVAL_PERCENT)
        return Fraction(float(self.weight @ inside), float(low), float(high), counted)

    def histogram(
        self, place: Float[np.ndarray, " k"], edges: Float[np.ndarray, " bins_plus_1"]
    ) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
        """Find the part of the molecules in each bin, and its 90 % interval.

        Parameters
        ----------
        place
            (k,) where each node lies on an axis.
        edges
            (bins + 1,) increasing; what lies beyond is counted in the first and last bin.

        Returns
        -------
        tuple
            (bins,) each: the part, and the ends of its interval.
        """
        bin_of = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
        membership = np.eye(len(edges) - 1)[bin_of]
        low, high = np.percentile(self.resampled @ membership, _INTERVAL_PERCENT, axis=0)
        return self.weight @ membership, low, high


@dataclass(frozen=True)
class MainPopulation:
    """Parts of the molecules along the main motion, and in each cluster.

    Parameters
    ----------
    edges_angstrom
        (bins + 1,) Å RMS of the whole molecule.
    counted
        (bins,) part of the sampled images whose mean lies in each bin.
    value, low, high
        (bins,) with the noise taken out, and its 90 % interval.
    clusters
        The same for each cluster of the latent space.
    """

    edges_angstrom: Float[np.ndarray, " bins_plus_1"]
    counted: Float[np.ndarray, " bins"]
    value: Float[np.ndarray, " bins"]
    low: Float[np.ndarray, " bins"]
    high: Float[np.ndarray, " bins"]
    clusters: tuple[Fraction, ...]


def along_axis(
    population: Population,
    place: Float[np.ndarray, " k"],
    counted_place: Float[np.ndarray, " m"],
    clusters: tuple[Fraction, ...],
) -> MainPopulation:
    """Divide an axis into bins that hold all images and nodes.

    Parameters
    ----------
    population
        Of the molecules.
    place
        (k,) where its nodes lie on the axis.
    counted_place
        (m,) where the images' means lie.
    clusters
        Shares of the clusters, to go with it.
    """
    low, high = np.percentile(np.concatenate([place, counted_place]), [0.2, 99.8])
    pad = 0.05 * (high - low) or 0.5
    edges = np.linspace(low - pad, high + pad, _BINS + 1)
    counted = np.histogram(np.clip(counted_place, edges[0], edges[-1]), edges)[0] / len(
        counted_place
    )
    return MainPopulation(edges, counted, *population.histogram(place, edges), clusters)


def deconvolve(latents: LatentTable, seed: int = 0, n_resampled: int = _RESAMPLED) -> Population:
    """Find the population that explains the latents of all images, given how well each is known.

    Parameters
    ----------
    latents
        Posterior means and covariances under the prior N(0, I), which is divided out.
    seed
        Of nodes and resampling.
    n_resampled
        Times the images are resampled for intervals.

    Returns
    -------
    Population
        Of both half sets, each in its own latent space, weighted by their numbers of images.
    """
    draw = np.random.default_rng(seed)
    half = np.asarray(latents.half)
    parts = []
    for model, rows in images_by_model(half).items():
        some = rows if len(rows) <= _IMAGES else np.sort(draw.choice(rows, _IMAGES, replace=False))
        mean = np.asarray(latents.mean, np.float64)[some]
        covariance = np.asarray(latents.covariance, np.float64)[some]
        nodes = _draw_nodes(mean, covariance, draw)
        likelihood = _likelihood(mean, covariance, nodes)
        smooth = _smoother(nodes, covariance)
        weight = _maximise(likelihood, np.ones(len(some)), smooth)
        again = [
            _maximise(likelihood, draw.exponential(size=len(some)), smooth)
            for _ in range(n_resampled)
        ]
        fraction = len(rows) / len(half)
        parts.append(
            (nodes, np.full(len(nodes), model), weight * fraction, np.stack(again) * fraction)
        )
    return Population(
        nodes=np.concatenate([part[0] for part in parts]),
        half=np.concatenate([part[1] for part in parts]),
        weight=np.concatenate([part[2] for part in parts]),
        resampled=np.concatenate([part[3] for part in parts], axis=1),
    )


def _draw_nodes(
    mean: Float[np.ndarray, "n d"],
    covariance: Float[np.ndarray, "n d d"],
    draw: np.random.Generator,
) -> Float[np.ndarray, "k d"]:
    """Draw nodes from the posteriors of images: wherever a molecule may be."""
    chosen = draw.choice(len(mean), _NODES, replace=len(mean) < _NODES)
    noise = draw.standard_normal((_NODES, mean.shape[1]))
    nodes: Float[np.ndarray, "k d"] = mean[chosen] + np.einsum(
        "kij,kj->ki", standard_steps(covariance[chosen]), noise
    )
    return nodes


def _likelihood(
    mean: Float[np.ndarray, "n d"],
    covariance: Float[np.ndarray, "n d d"],
    nodes: Float[np.ndarray, "k d"],
) -> Float[np.ndarray, "n k"]:
    """Divide Gaussian posteriors by the prior N(0, I): up to a factor of each image, its likelihood
    at the nodes.
    """
    variance, axes = np.linalg.eigh(covariance)
    precision = 1.0 / np.clip(
        variance, 1e-12, 1.0
    )  # no image knows less than the prior; samples of its posterior may
    shifted = np.einsum("nij,nki->nkj", axes, nodes[None] - mean[:, None])
    exponent = -0.5 * np.einsum("nkj,nj->nk", shifted**2, precision) + 0.5 * (nodes**2).sum(axis=1)
    exponent -= exponent.max(axis=1, keepdims=True)
    return np.exp(np.maximum(exponent, -_LARGEST_EXPONENT))


def _smoother(
    nodes: Float[np.ndarray, "k d"], covariance: Float[np.ndarray, "n d d"]
) -> Float[np.ndarray, "k k"]:
    """Spread the weight of each node over its neighbours: columns add up to 1."""
    typical = np.median(covariance, axis=0) * _DETAIL**2
    whitener = np.linalg.inv(np.linalg.cholesky(typical + 1e-9 * np.eye(len(typical))))
    scaled = nodes @ whitener.T
    kernel = np.exp(-0.5 * ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2))
    result: Float[np.ndarray, "k k"] = kernel / kernel.sum(axis=0)
    return result


def _maximise(
    likelihood: Float[np.ndarray, "n k"],
    image_weight: Float[np.ndarray, " n"],
    smooth: Float[np.ndarray, "k k"],
) -> Float[np.ndarray, " k"]:
    weight = np.full(likelihood.shape[1], 1.0 / likelihood.shape[1])
    for _ in range(_ROUNDS):
        weight = smooth @ (
            weight * ((image_weight / (likelihood @ weight)) @ likelihood) / image_weight.sum()
        )
    return weight
