"""Places of the latent space at which volumes are made, for each half set in the space of its own
model.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from kinesphere.analysis.latent import cluster, latent_components
from kinesphere.errors import InputError
from kinesphere.reconstruction.problem import Problem
from kinesphere.runs.finished_run import RunWithImages
from kinesphere.runs.halves import FIRST_HALF, HALVES, has_one_model
from kinesphere.volumes.options import VolumeSettings

_IMAGES_AT_ONCE = 64
_MATCHED = 20


def choose_targets(
    run: RunWithImages, problem: Problem, settings: VolumeSettings
) -> dict[int, Float[np.ndarray, "m d"]]:
    """Choose places of the latent space, for each half set in the space of its own model.

    Where two models were trained, places are chosen in the first's space. Those in the second's are
    the mean latents of the images whose motion, on nodes around the molecule and from a common
    reference, is most like that of the images nearest to the first.

    Returns
    -------
    dict
        (m, d) places, by half set.
    """
    is_shared = has_one_model(run.motions)
    rows = np.arange(len(problem.half)) if is_shared else problem.rows(FIRST_HALF)
    mean = run.latents.mean[rows]
    covariance = run.latents.covariance[rows]
    components = latent_components(mean, covariance)
    if settings.at is not None:
        places = _parse(settings.at, mean.shape[1])
    elif settings.clusters is not None:
        places = mean[cluster(components, settings.clusters, settings.seed).representative]
    else:
        component = (1 if settings.traverse is None else settings.traverse) - 1
        n_components = components.scores.shape[1]
        if not 0 <= component < n_components:
            problem_text = f"there is no component {component + 1}: there are {n_components}"
            raise InputError("--traverse", problem_text, "Components count from 1")
        points = np.tile(np.median(components.scores, axis=0), (settings.steps, 1))
        quantile = (np.arange(settings.steps) + 0.5) / settings.steps
        points[:, component] = np.quantile(components.scores[:, component], quantile)
        places = components.centre + points @ components.directions
    places = places.astype(np.float64)
    second = places if is_shared else in_second_space(run, problem, places)
    return dict(zip(HALVES, (places, second), strict=True))


def in_second_space(
    run: RunWithImages, problem: Problem, places: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "m d"]:
    """Find the places of half set 2's latent space that show what places of half set 1's do; see
    `choose_targets`.
    """
    first, second = (problem.rows(half) for half in HALVES)
    mean = run.latents.mean
    spread = np.maximum(mean[first].std(0), np.finfo(np.float32).tiny)
    shown = []
    for place in places:
        distance = np.linalg.norm((mean[first] - place) / spread, axis=1)
        shown.append(problem.motion.at(first[np.argsort(distance)[:_MATCHED]]).numpy().mean(0))
    difference = np.empty((len(second), len(places)))
    for part in np.array_split(np.arange(len(second)), max(len(second) // _IMAGES_AT_ONCE, 1)):
        moved = problem.motion.at(second[part]).numpy()
        for number, motion in enumerate(shown):
            difference[part, number] = ((moved - motion) ** 2).sum((1, 2))
    nearest = np.argsort(difference, axis=0)[:_MATCHED]  # (matched, m)
    matched: Float[np.ndarray, "m d"] = mean[second[nearest]].mean(0, dtype=np.float64)
    return matched


def _parse(text: str, n_dimensions: int) -> Float[np.ndarray, "1 d"]:
    try:
        values = np.array([[float(part) for part in text.split(",")]])
    except ValueError:
        raise InputError(
            "--at", f"{text!r} is not a list of numbers", "Write them as 0.5,-1"
        ) from None
    if values.shape[1] != n_dimensions or not np.isfinite(values).all():
        raise InputError(
            "--at",
            f"{text!r} is no place of this latent space",
            f"Give {n_dimensions} finite numbers",
        )
    return values
