"""How much of the true coordinate is in the latent space, whatever curve it follows there, and how
much of what it should not know: from where a molecule is seen, and at which defocus.

`neighbourhood_similarity` and `information_imbalance` are the scores of latent spaces in CryoBench
(Jeon et al. 2024, arXiv:2408.05526); here the truth is the coordinate of the motion. They compare
orders of distances only, so that they hold for any method's latents.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kinesphere.analysis.ensemble import sample_images
from kinesphere.runs.halves import images_by_model

_FOLDS = 5
FEWEST_IMAGES = 4 * _FOLDS
IMAGES_FOR_NEIGHBOURS = 1500
_IMAGES = 1500
_IMAGES_FOR_SCALES = 300  # enough for one length scale a dimension; time grows with the cube
_IMAGES_FOR_CURVE = 2500
_CURVE_TERMS = 200
_SMALLEST_CURVE = 1e-9  # of the coordinate: less is rounding errors


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


def along_smooth_function(
    latents: Float[np.ndarray, "n d"], coordinate: Float[np.ndarray, " n"], seed: int = 0
) -> Float[np.ndarray, " n"]:
    """Predict the coordinate by the smooth function of all latent dimensions that follows it best,
    cross-validated.

    The function is a straight direction plus a curve through what that leaves: kernel ridge
    regression with a Gaussian kernel that has a length scale for each dimension. Length scales are
    those of greatest marginal likelihood (Rasmussen & Williams 2006, Gaussian Processes for Machine
    Learning, chapter 5), so that dimensions which say nothing do not count; the strength of the
    ridge is chosen by leaving out single images, so that there is no curve where none is seen.

    Parameters
    ----------
    latents
        (n, d), in any units; dimensions that do not vary are left out.
    coordinate
        (n,) of one true motion.
    seed
        Of the five folds: each is predicted by the function fitted to the other four.

    Returns
    -------
    ndarray
        (n,) in the unit of the coordinate; its mean where the latents do not vary, NaN for too few
        images or a coordinate that does not vary.
    """
    n = len(coordinate)
    if n < FEWEST_IMAGES or np.ptp(coordinate) == 0:
        return np.full(n, np.nan)
    varying = latents[:, np.ptp(latents, axis=0) > 0]
    if varying.shape[1] == 0:
        return np.full(n, coordinate.mean())
    # Every fold gets one of each five neighbours in the coordinate. Were the mean of a fold low by
    # chance, that of the others would be high, and latents that know nothing would correlate
    # negatively.
    rank = np.argsort(np.argsort(coordinate, kind="stable"))
    neighbours = np.minimum(rank // _FOLDS, n // _FOLDS - 1)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    smooth = np.empty(n)
    for fitted, held_out in folds.split(varying, neighbours):
        function = _smooth_function(varying[fitted], coordinate[fitted])
        smooth[held_out] = function(varying[held_out])
    return smooth


def _smooth_function(
    latents: Float[np.ndarray, "n d"], coordinate: Float[np.ndarray, " n"]
) -> Callable[[Float[np.ndarray, "m d"]], Float[np.ndarray, " m"]]:
    """Fit a straight direction to all images, and a curve through what it leaves of some."""
    straight = make_pipeline(StandardScaler(), LinearRegression()).fit(latents, coordinate)
    some = sample_images(len(latents), 1, seed=0, limit=_IMAGES_FOR_CURVE)
    left = coordinate[some] - straight.predict(latents[some])
    if left.std() <= _SMALLEST_CURVE * np.ptp(coordinate):
        return straight.predict
    standardise = StandardScaler().fit(latents)
    points = standardise.transform(latents[some])
    scales = _length_scales(points, left / left.std())
    curve = make_pipeline(
        Nystroem(gamma=0.5, n_components=min(_CURVE_TERMS, len(some)), random_state=0),
        RidgeCV(np.logspace(-3, 5, 9)),
    ).fit(points / scales, left)
    return lambda z: straight.predict(z) + curve.predict(standardise.transform(z) / scales)


def _length_scales(
    points: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " d"]:
    """Over what distance in each dimension a smooth function of the points varies, by marginal
    likelihood; points and values are standardised.
    """
    n_dimensions = points.shape[1]
    some = sample_images(len(points), 1, seed=0, limit=_IMAGES_FOR_SCALES)
    start = np.full(n_dimensions, np.sqrt(n_dimensions))
    kernel = ConstantKernel(0.5, (1e-4, 1e2)) * RBF(start, (0.05, 30.0))
    noise = WhiteKernel(0.5, (1e-4, 2.0))
    process = GaussianProcessRegressor(kernel + noise, optimizer=_climb)
    with warnings.catch_warnings():
        # a length scale at its upper bound is how a dimension that says nothing looks
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(points[some], values[some])
    scales: Float[np.ndarray, " d"] = np.broadcast_to(
        process.kernel_.k1.k2.length_scale, (n_dimensions,)
    )
    return scales


def _climb(
    objective: Callable[[Float[np.ndarray, " p"]], tuple[float, Float[np.ndarray, " p"]]],
    start: Float[np.ndarray, " p"],
    bounds: Float[np.ndarray, "p 2"],
) -> tuple[Float[np.ndarray, " p"], float]:
    """Minimise coarsely: the last digits of length scales change no prediction, and cost most of
    the time.
    """
    options = {"maxiter": 25, "ftol": 1e-4}
    best = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
    return best.x, float(best.fun)


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
