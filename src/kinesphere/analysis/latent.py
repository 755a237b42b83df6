"""Structure of the latent space: components, traversals, clusters and how well each particle is
placed in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans

from kinesphere.errors import InputError

TRAVERSAL_PERCENTILES = (5.0, 95.0)


@dataclass(frozen=True)
class LatentComponents:
    """Principal components of the latents: `latent = centre + scores @ directions`."""

    centre: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "k d"]
    scores: Float[np.ndarray, "n k"]
    score_errors: Float[np.ndarray, "n k"]
    variance_fraction: Float[np.ndarray, " k"]

    def reordered(self, order: Int[np.ndarray, " k"]) -> LatentComponents:
        """Give the same components in another order."""
        return LatentComponents(
            self.centre,
            self.directions[order],
            self.scores[:, order],
            self.score_errors[:, order],
            self.variance_fraction[order],
        )


@dataclass(frozen=True)
class Traversal:
    """Evenly spaced points along one component, and the particle nearest to each."""

    component: int
    scores: Float[np.ndarray, " m"]
    latents: Float[np.ndarray, "m d"]
    nearest: Int[np.ndarray, " m"]
    nearest_distance: Float[np.ndarray, " m"]


@dataclass(frozen=True)
class Clusters:
    """k-means clusters, numbered along the first component; representatives are particles, not
    averages.
    """

    label: Int[np.ndarray, " n"]
    representative: Int[np.ndarray, " k"]
    size: Int[np.ndarray, " k"]


def latent_components(
    mean: Float[np.ndarray, "n d"],
    covariance: Float[np.ndarray, "n d d"],
    n_components: int | None = None,
) -> LatentComponents:
    """Find the principal components of the latents and carry each particle's error along.

    Parameters
    ----------
    mean
        (n, d) posterior means.
    covariance
        (n, d, d) posterior covariances.
    n_components
        How many to keep; all by default.

    Returns
    -------
    LatentComponents
        Ordered by variance. A direction's sign is chosen so that its largest entry is positive.
    """
    k = min(n_components or mean.shape[1], mean.shape[1], max(len(mean) - 1, 1))
    centre = mean.mean(axis=0, dtype=np.float64)
    variance, axes = np.linalg.eigh(np.cov(mean - centre, rowvar=False).reshape(mean.shape[1], -1))
    directions = axes.T[::-1][:k]
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(k), largest])[:, None]
    scores = (mean - centre) @ directions.T
    errors = np.sqrt(
        np.einsum("ki,nij,kj->nk", directions, covariance.astype(np.float64), directions).clip(0.0)
    )
    fraction = np.clip(variance[::-1][:k], 0.0, None) / max(variance.sum(), np.finfo(float).tiny)
    return LatentComponents(centre, directions, scores, errors, fraction)


def standard_steps(covariance: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, "n d d"]:
    """Find steps of one standard deviation along the axes of each posterior.

    Parameters
    ----------
    covariance
        (n, d, d).

    Returns
    -------
    ndarray
        (n, d, d): the columns S of each matrix are independent steps, S·Sᵀ the covariance.
    """
    variance, axes = np.linalg.eigh(covariance.astype(np.float64))
    steps: Float[np.ndarray, "n d d"] = axes * np.sqrt(variance.clip(0.0))[:, None, :]
    return steps


def signal_to_error(
    scores: Float[np.ndarray, "n k"], errors: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, " k"]:
    """Compare the spread of the particles along each dimension with the error of one particle.

    Parameters
    ----------
    scores, errors
        (n, k) positions and their standard deviations.

    Returns
    -------
    ndarray
        (k,) standard deviation of the positions over the root-mean-square error. Below 1, a single
        particle cannot be told from the average.
    """
    error = np.sqrt(np.mean(errors.astype(np.float64) ** 2, axis=0))
    spread: Float[np.ndarray, " k"] = scores.astype(np.float64).std(axis=0)
    return np.divide(spread, error, out=np.full_like(spread, np.inf), where=error > 0)


def traverse(components: LatentComponents, component: int, n_points: int) -> Traversal:
    """Walk along one component from its 5th to its 95th percentile, the others held at their
    median.

    Parameters
    ----------
    components
        Of all particles.
    component
        Which one, from 0.
    n_points
        Number of evenly spaced points, ends included.

    Returns
    -------
    Traversal
        `nearest` is the particle closest in the latent space with every direction in units of its
        own spread, so that an ill-determined direction doesn't decide alone.
    """
    low, high = np.percentile(components.scores[:, component], TRAVERSAL_PERCENTILES)
    points = np.tile(np.median(components.scores, axis=0), (n_points, 1))
    points[:, component] = np.linspace(low, high, n_points)
    spread = components.scores.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    distance = np.stack(
        [np.linalg.norm((components.scores - point) / scale, axis=1) for point in points]
    )
    nearest = distance.argmin(axis=1)
    return Traversal(
        component=component,
        scores=points[:, component],
        latents=components.centre + points @ components.directions,
        nearest=nearest,
        nearest_distance=distance[np.arange(n_points), nearest],
    )


def cluster(components: LatentComponents, n_clusters: int, seed: int) -> Clusters:
    """Divide the particles into k-means clusters in the latent space.

    Parameters
    ----------
    components
        Of all particles; Euclidean distances in their space are those between latents.
    n_clusters
        At most the number of distinct particles is used.
    seed
        Of the k-means starts.

    Returns
    -------
    Clusters
        Numbered by increasing centre along the first component. The representative is the particle
        nearest to the centre.
    """
    n_distinct = len(np.unique(components.scores, axis=0))
    fit = KMeans(n_clusters=min(n_clusters, n_distinct), n_init=4, random_state=seed).fit(
        components.scores
    )
    order = np.argsort(fit.cluster_centers_[:, 0])
    rank = np.argsort(order)
    label = rank[fit.labels_]
    distance = np.linalg.norm(components.scores - fit.cluster_centers_[fit.labels_], axis=1)
    members = [np.flatnonzero(label == k) for k in range(len(order))]
    representative = np.array([rows[distance[rows].argmin()] for rows in members])
    return Clusters(label, representative, np.array([len(rows) for rows in members]))


def umap_embedding(mean: Float[np.ndarray, "n d"], seed: int) -> Float[np.ndarray, "n 2"]:
    """Embed the latents in two dimensions with UMAP (McInnes et al., 2018), an optional extra.

    Parameters
    ----------
    mean
        (n, d) posterior means.
    seed
        Fixes the embedding.

    Returns
    -------
    ndarray
        (n, 2), without unit: distances between far points have no meaning.

    Raises
    ------
    InputError
        Where umap-learn is not installed.
    """
    try:
        from umap import UMAP
    except ImportError as error:
        raise InputError(
            "--umap",
            "the package umap-learn is not installed",
            "Install it with: pip install 'kinesphere[umap]'",
        ) from error
    embedding: Float[np.ndarray, "n 2"] = UMAP(
        n_components=2, random_state=seed, n_jobs=1
    ).fit_transform(mean)
    return embedding
