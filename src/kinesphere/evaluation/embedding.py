"""How much of the true coordinate is in the latent space, whatever curve it follows there, and how
much of what it should not know: from where a molecule is seen, and at which defocus.

`neighbourhood_similarity` and `information_imbalance` are the scores of latent spaces in CryoBench
(Jeon et al. 2024, arXiv:2408.05526); here the truth is the coordinate of the motion. They compare
orders of distances only, so that they hold for any method's latents.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor

from kinesphere.analysis.ensemble import sample_images
from kinesphere.runs.halves import images_by_model

_FOLDS = 5
FEWEST_IMAGES = 4 * _FOLDS
IMAGES_FOR_NEIGHBOURS = 1500
_IMAGES = 1500


def explained_variance(
    latents: Float[np.ndarray, "n d"], coordinate: Float[np.ndarray, " n"], seed: int = 0
) -> float:
    """R² of the coordinate predicted from the latents by nearest neighbours, cross-validated.

    Parameters
    ----------
    latents
        (n, d).
    coordinate
        (n,) of one true motion.
    seed
        Of the five folds.

    Returns
    -------
    float
        1 where the coordinate is a function of the latents, about 0 (or below) where they know
        nothing of it. √n / 2 neighbours; NaN for too few images or a coordinate that does not vary.
    """
    n = len(coordinate)
    total = float(((coordinate - coordinate.mean()) ** 2).sum())
    if n < FEWEST_IMAGES or total < 1e-12 * n:
        return float("nan")
    neighbours = KNeighborsRegressor(n_neighbors=max(1, round(0.5 * np.sqrt(n))))
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(neighbours, latents, coordinate, cv=folds)
    return 1.0 - float(((coordinate - predicted) ** 2).sum()) / total


def along_best_direction(
    latents: Float[np.ndarray, "n d"], coordinate: Float[np.ndarray, " n"], seed: int = 0
) -> Float[np.ndarray, " n"]:
    """Position of each latent along the straight direction that follows the coordinate best,
    cross-validated.

    Parameters
    ----------
    latents
        (n, d).
    coordinate
        (n,) of one true motion.
    seed
        Of the five folds: each is placed by the direction that fits the other four in least
        squares.

    Returns
    -------
    ndarray
        (n,) in the unit of the coordinate; its mean for too few images.
    """
    if len(coordinate) < FEWEST_IMAGES:
        return np.full(len(coordinate), coordinate.mean())
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    along: Float[np.ndarray, " n"] = cross_val_predict(
        LinearRegression(), latents, coordinate, cv=folds
    )
    return along


def neighbourhood_similarity(
    latents: Float[np.ndarray, "n d"], coordinate: Float[np.ndarray, "n k"], fraction: float = 0.1
) -> float:
    """Mean part of each image's nearest neighbours in the latent space that are its nearest in
    truth too.

    Parameters
    ----------
    latents
        (n, d).
    coordinate
        (n, k) true coordinates.
    fraction
        Size of a neighbourhood, as a fraction of all images; also what chance gives.

    Returns
    -------
    float
        From `fraction` (chance) to 1. Boggust et al. 2022, doi:10.1145/3490099.3511122. Images of
        one state lie in one place: where they straddle the edge of a neighbourhood, each counts by
        its share.
    """
    size = max(1, round(fraction * (len(latents) - 1)))
    first, second = (_membership(_distances(x), size) for x in (latents, coordinate))
    return float((first * second).sum(axis=1).mean() / size)


def information_imbalance(
    latents: Float[np.ndarray, "n d"], coordinate: Float[np.ndarray, "n k"]
) -> tuple[float, float]:
    """How badly neighbours in one space predict neighbours in the other: Δ(latents → truth),
    Δ(truth → latents).

    Δ(A → B) = 2 ⟨rank in B of the nearest neighbour in A⟩ / n: 0 where A tells all about B, 1 where
    it tells nothing (Glielmo et al. 2022, doi:10.1093/pnasnexus/pgac039). Ranks of ties are
    averaged, as are nearest neighbours.
    """
    a, b = _distances(latents), _distances(coordinate)
    return _imbalance(a, b), _imbalance(b, a)


def _distances(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Distances between all points, infinite from each to itself."""
    distance: Float[np.ndarray, "n n"] = cdist(points, points)
    np.fill_diagonal(distance, np.inf)
    return distance


def _membership(distance: Float[np.ndarray, "n n"], size: int) -> Float[np.ndarray, "n n"]:
    """Whether each point is among another's `size` nearest; those tied for the last places share
    them.
    """
    edge = np.partition(distance, size - 1, axis=1)[:, size - 1, None]
    inside = distance < edge
    tied = distance == edge
    left = size - inside.sum(axis=1, keepdims=True)
    return inside + tied * (left / tied.sum(axis=1, keepdims=True))


def _imbalance(first: Float[np.ndarray, "n n"], second: Float[np.ndarray, "n n"]) -> float:
    nearest: Shaped[np.ndarray, "n n"] = first == first.min(axis=1, keepdims=True)
    ranks = rankdata(second, axis=1)
    return float(2.0 * ((nearest * ranks).sum(axis=1) / nearest.sum(axis=1)).mean() / len(first))


def leakage_scores(
    latents: Float[np.ndarray, "n d"],
    half: Int[np.ndarray, " n"],
    rotation: Float[np.ndarray, "n 3 3"],
    defocus_angstrom: Float[np.ndarray, " n"],
) -> dict[str, list[float]]:
    """Measure what latents say of viewing direction and defocus, and the other way round.

    Where latents follow pose or CTF, a motion may be an error of these. The measure is the
    information imbalance: 0 where neighbours in one space are neighbours in the other, 1 where they
    tell nothing.

    Parameters
    ----------
    latents
        (n, d) posterior means.
    half
        (n,) half set, each with a latent space of its own.
    rotation
        (n, 3, 3) R; its third column is the viewing direction in the frame of the volume.
    defocus_angstrom
        (n,).

    Returns
    -------
    dict
        `leakage_pose`, `leakage_ctf`: [latents → it, it → latents], 1 each where nothing leaks;
        mean over half sets. NaN where all images have the same.
    """
    return {
        "leakage_pose": _imbalance_with(
            latents.astype(np.float64), rotation[:, :, 2].astype(np.float64), half
        ),
        "leakage_ctf": _imbalance_with(
            latents.astype(np.float64), defocus_angstrom[:, None].astype(np.float64), half
        ),
    }


def _imbalance_with(
    latents: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n k"], half: Int[np.ndarray, " n"]
) -> list[float]:
    if not (np.ptp(other, axis=0) > 0).any() or not (np.ptp(latents, axis=0) > 0).any():
        return [float("nan")] * 2
    imbalances = []
    for rows in images_by_model(half).values():
        if len(rows) > 2:
            some = rows[sample_images(len(rows), 1, seed=0, limit=_IMAGES)]
            imbalances.append(information_imbalance(latents[some], other[some]))
    mean: list[float] = np.mean(imbalances, axis=0).tolist()
    return mean
