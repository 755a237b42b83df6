"""What the ideal observer scores, and a run's scores as fractions of it: the limit that the noise
sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kinesphere.analysis.ensemble import sample_images
from kinesphere.evaluation.embedding import (
    IMAGES_FOR_NEIGHBOURS,
    information_imbalance,
    neighbourhood_similarity,
)
from kinesphere.evaluation.groups import Distance, distance_scores, measure_all
from kinesphere.evaluation.metrics import MainMotion, pearson, spearman
from kinesphere.evaluation.observer import IdealObserver
from kinesphere.evaluation.predictions import Predictions
from kinesphere.evaluation.truth import Truth


def add_limits(
    scores: dict[str, Any],
    truth: Truth,
    motion: MainMotion,
    distances: Sequence[Distance],
    predictions: Predictions,
    ideal: IdealObserver,
) -> None:
    """Add the scores of the ideal observer's posterior means, and what fraction of them the run
    reaches.

    Parameters
    ----------
    scores
        Of the run; the entries of its `distances` are added to, too.
    truth, motion, distances, predictions
        What the run was scored with.
    ideal
        The ideal observer. Fractions compare on the images that it has seen.
    """
    images = ideal.images
    scores["ideal_n"] = len(images)
    _add_rmsd(scores, truth, predictions, ideal)

    found, limit = predictions.main_motion[images], ideal.expect(motion.project(truth.ca_states))
    true = motion.project(truth.ca_states)[truth.state[images]]
    for name, correlate, fraction in (
        ("r_main_motion", pearson, "fraction_of_ideal"),
        ("spearman_main_motion", spearman, "fraction_of_ideal_spearman"),
    ):
        scores[f"ideal_{name}"] = correlate(limit, true)
        scores[fraction] = _ratio(correlate(found, true), scores[f"ideal_{name}"])

    columns = list(zip(predictions.coordinate[images].T, _coordinate(truth, ideal).T, strict=True))
    for name, correlate in (("r_coordinate", pearson), ("spearman_coordinate", spearman)):
        pairs = list(zip(columns, truth.coordinate[images].T, strict=True))
        scores[f"ideal_{name}"] = [correlate(limit, true) for (_, limit), true in pairs]
        scores[f"fraction_of_ideal_{name}"] = [
            _ratio(correlate(found, true), correlate(limit, true)) for (found, limit), true in pairs
        ]

    _add_neighbours(scores, truth, ideal)
    _add_distances(scores, truth, distances, predictions, ideal)


def _coordinate(truth: Truth, ideal: IdealObserver) -> np.ndarray:
    return ideal.expect(np.nan_to_num(truth.state_coordinate))


def _add_rmsd(
    scores: dict[str, Any], truth: Truth, predictions: Predictions, ideal: IdealObserver
) -> None:
    error = ideal.rmsd(truth)
    scores["ideal_ca_rmsd_median"] = float(np.median(error))
    scores["ideal_ca_rmsd_quartiles"] = np.percentile(error, [25, 75]).tolist()
    found = float(np.median(predictions.rmsd[ideal.images]))
    scores["fraction_of_ideal_ca_rmsd"] = _ratio(scores["ideal_ca_rmsd_median"], found)


def _add_neighbours(scores: dict[str, Any], truth: Truth, ideal: IdealObserver) -> None:
    """Take the observer's expected coordinates for latents: what the best of latent spaces would
    score.
    """
    coordinate = truth.coordinate[ideal.images]
    if not (coordinate.std(axis=0) > 0).any() or len(coordinate) <= 2:
        return
    some = sample_images(len(coordinate), 1, seed=0, limit=IMAGES_FOR_NEIGHBOURS)
    expected = _coordinate(truth, ideal)[some]
    scores["ideal_neighbourhood_similarity"] = neighbourhood_similarity(expected, coordinate[some])
    scores["ideal_information_imbalance"] = list(information_imbalance(expected, coordinate[some]))
    scores["fraction_of_ideal_neighbourhood_similarity"] = _ratio(
        scores["neighbourhood_similarity"], scores["ideal_neighbourhood_similarity"]
    )


def _add_distances(
    scores: dict[str, Any],
    truth: Truth,
    distances: Sequence[Distance],
    predictions: Predictions,
    ideal: IdealObserver,
) -> None:
    of_states = measure_all(distances, truth.ca_states)
    true = of_states[truth.state[ideal.images]]
    limits = distance_scores(ideal.expect(of_states), true)
    on_same = distance_scores(predictions.distances[ideal.images], true)
    for entry, limit, same in zip(scores["distances"], limits, on_same, strict=True):
        entry.update({f"ideal_{name}": value for name, value in limit.items()})
        entry["fraction_of_ideal"] = _ratio(same["r"], limit["r"])


def _ratio(value: float, limit: float) -> float:
    return value / limit if limit else float("nan")
