"""All scores of a run against the truth, as one dictionary: what `kinesphere evaluate` prints.

docs/scores.md says what each key means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.ensemble import count_clashes, sample_images
from kinesphere.evaluation.calibration import calibration_scores, mode_scores
from kinesphere.evaluation.distances import Distance, distance_scores, measure_all, parse_distance
from kinesphere.evaluation.embedding import (
    IMAGES_FOR_NEIGHBOURS,
    along_best_direction,
    along_smooth_function,
    explained_variance,
    information_imbalance,
    neighbourhood_similarity,
)
from kinesphere.evaluation.geometry import boundary_distances, geometry_scores
from kinesphere.evaluation.metrics import MainMotion, amplitude, pearson, rmsd, spearman
from kinesphere.evaluation.observer import add_limits, observe_ideally
from kinesphere.evaluation.options import ScoreSettings
from kinesphere.evaluation.predictions import Predictions, predict
from kinesphere.evaluation.truth import Truth
from kinesphere.evaluation.volume_scores import fsc_scores
from kinesphere.runs.halves import images_by_model
from kinesphere.runs.run import Run

_IMAGES_FOR_CLASHES = 300
_IMAGES_FOR_BOUNDARIES = 60


@dataclass(frozen=True)
class _Case:
    """A run and its truth, on the residues they share."""

    run: Run
    truth: Truth
    rows: Int[np.ndarray, " residues"]
    motion: MainMotion
    distances: tuple[Distance, ...]

    def true_main_motion(self) -> Float[np.ndarray, " n"]:
        return self.motion.project(self.truth.ca_states)[self.truth.state]

    def true_distances(self) -> Float[np.ndarray, "n distances"]:
        return measure_all(self.distances, self.truth.ca_states)[self.truth.state]


def score(
    run: Run,
    truth: Truth,
    settings: ScoreSettings,
    advance: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """Score a run against the truth.

    Parameters
    ----------
    run
        A finished run.
    truth
        What its images show.
    settings
        What to score.
    advance
        Called with the number of images the ideal observer has done since the last call, and of all
        it will do.

    Returns
    -------
    dict
        Numbers, lists of numbers (one a coordinate) and a list of distances; NaN where a score is
        not defined.

    Raises
    ------
    InputError
        If the truth is of another set or molecule, or an option cannot be understood.
    """
    truth.require_images(len(run.latents.index))
    shared, rows = truth.match(run.model)
    distances = tuple(parse_distance(text, run.model, rows) for text in settings.distance)
    case = _Case(run, shared, rows, MainMotion.of_states(shared.ca_states), distances)
    hinge = {} if settings.hinge is None else _hinge_scores(run, settings.hinge)
    predictions = predict(run, shared, rows, case.motion, distances)
    smooth = _along_smooth_functions(case)
    scores = {
        "n": len(shared.state),
        "n_residues": len(rows),
        "n_truth_residues": len(truth.chain),
        **_structure_scores(case, predictions),
        **_motion_scores(case, predictions),
        **mode_scores(run, shared, rows, case.motion, predictions.main_motion),
        **_latent_scores(case),
        "latent_smooth_r_coordinate": [
            pearson(*pair) for pair in zip(smooth.T, shared.coordinate.T, strict=True)
        ],
        **hinge,
        "distances": [
            {"distance": distance.text, **entry}
            for distance, entry in zip(
                distances,
                distance_scores(predictions.distances, case.true_distances()),
                strict=True,
            )
        ],
    }
    ideal = None
    if settings.ideal:
        ideal = observe_ideally(
            run, shared, rows, settings.ideal_images, settings.ideal_beads, advance
        )
        add_limits(scores, shared, case.motion, distances, predictions, smooth, ideal)
    return scores | fsc_scores(run, shared, rows, ideal)


def _structure_scores(case: _Case, predictions: Predictions) -> dict[str, Any]:
    nominal = case.run.model.centres_angstrom
    still = rmsd(case.truth.ca_states, nominal[case.rows])[case.truth.state]
    some = sample_images(len(still), 1, seed=0, limit=_IMAGES_FOR_CLASHES)
    structures = case.run.residues(some)
    clashes = count_clashes(structures, case.run.model)
    clashes_of_model = int(count_clashes(nominal[None], case.run.model)[0])
    median = float(np.median(predictions.rmsd))
    unmoved = float(np.median(still))
    return {
        "ca_rmsd_median": median,
        "ca_rmsd_quartiles": np.percentile(predictions.rmsd, [25, 75]).tolist(),
        "ca_rmsd_superposed_median": float(np.median(predictions.superposed_rmsd)),
        "still_rmsd_median": unmoved,
        "still_rmsd_quartiles": np.percentile(still, [25, 75]).tolist(),
        "rmsd_ratio": median / unmoved if unmoved > 0 else float("nan"),
        "moved_median": float(np.median(predictions.moved)),
        "motion_spread_median": float(np.median(predictions.spread)),
        "clashes": float(np.median(clashes)) - clashes_of_model,
        "clashes_model": clashes_of_model,
        **geometry_scores(case.run.model, structures),
    }


def _motion_scores(case: _Case, predictions: Predictions) -> dict[str, Any]:
    true = case.true_main_motion()
    pairs = list(zip(predictions.coordinate.T, case.truth.coordinate.T, strict=True))
    return {
        "r_main_motion": pearson(predictions.main_motion, true),
        "spearman_main_motion": spearman(predictions.main_motion, true),
        "amplitude_main_motion": amplitude(predictions.main_motion, true),
        "r_coordinate": [pearson(predicted, true) for predicted, true in pairs],
        "spearman_coordinate": [spearman(predicted, true) for predicted, true in pairs],
        **calibration_scores(case.run, case.truth, case.rows, case.motion),
    }


def _latent_scores(case: _Case) -> dict[str, Any]:
    """Scores of the latent space: the mean over half sets, whose models have spaces of their
    own.
    """
    mean = case.run.latents.mean.astype(np.float64)
    coordinate = case.truth.coordinate
    varying = coordinate.std(axis=0) > 0
    explained = []
    similarity = []
    imbalance = []
    along = np.empty_like(coordinate, dtype=np.float64)
    for rows in images_by_model(case.run.latents.half).values():
        along[rows] = np.stack(
            [along_best_direction(mean[rows], values) for values in coordinate[rows].T], axis=1
        )
        explained.append([explained_variance(mean[rows], values) for values in coordinate[rows].T])
        if varying.any() and len(rows) > 2:
            some = rows[sample_images(len(rows), 1, seed=0, limit=IMAGES_FOR_NEIGHBOURS)]
            similarity.append(neighbourhood_similarity(mean[some], coordinate[some]))
            imbalance.append(information_imbalance(mean[some], coordinate[some]))
    return {
        "latent_r_coordinate": [pearson(*pair) for pair in zip(along.T, coordinate.T, strict=True)],
        "latent_spearman_coordinate": [
            spearman(*pair) for pair in zip(along.T, coordinate.T, strict=True)
        ],
        "latent_r2_coordinate": np.mean(explained, axis=0).tolist(),
        "neighbourhood_similarity": float(np.mean(similarity)) if similarity else float("nan"),
        "information_imbalance": np.mean(imbalance, axis=0).tolist()
        if imbalance
        else [float("nan")] * 2,
    }


def _along_smooth_functions(case: _Case) -> Float[np.ndarray, "n k"]:
    """Predict every true coordinate by a smooth function of the latents, one for each half set."""
    mean = case.run.latents.mean.astype(np.float64)
    coordinate = case.truth.coordinate
    smooth = np.empty_like(coordinate, dtype=np.float64)
    for rows in images_by_model(case.run.latents.half).values():
        smooth[rows] = np.stack(
            [along_smooth_function(mean[rows], values) for values in coordinate[rows].T], axis=1
        )
    return smooth


def _hinge_scores(run: Run, hinge: str) -> dict[str, float]:
    """Distances of segment boundaries from a hinge, in the model of half set 1 where there are
    two.
    """
    ours = next(iter(images_by_model(run.latents.half).values()))
    some = ours[sample_images(len(ours), 1, seed=0, limit=_IMAGES_FOR_BOUNDARIES)]
    distances = boundary_distances(
        run.model, hinge, run.memberships.argmax(axis=1), run.residues(some)
    )
    return {"hinge_nearest_boundary": distances.nearest, "hinge_main_boundary": distances.main}
