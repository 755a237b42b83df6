"""Half sets of a run: which model an image belongs to, and which images a model has.

A run has one model of all its images, kept under `ALL_IMAGES`, or two that were trained apart, each
on a half set and kept under its number. What is known of every image, `half` (n,), names the model
that the image belongs to: 1 or 2, or 0 where one model serves all.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Int

ALL_IMAGES = 0
FIRST_HALF = 1
HALVES = (1, 2)


def model_keys(*, two_models: bool) -> tuple[int, ...]:
    """Keys of a run's models: the half sets, or `ALL_IMAGES` alone."""
    return HALVES if two_models else (ALL_IMAGES,)


def has_one_model(models: Collection[int]) -> bool:
    """Tell whether one model serves all images; `models` are the keys of a run's models."""
    return len(models) == 1


def model_of_image(half: Int[np.ndarray, " n"], models: Collection[int]) -> Int[np.ndarray, " n"]:
    """Name the model, one of the keys `models`, that each image belongs to.

    Parameters
    ----------
    half
        (n,) of each image; it counts only where there are two models.
    models
        Keys of the run's models.

    Returns
    -------
    ndarray
        (n,) int64.
    """
    known = np.asarray(half, dtype=np.int64)
    return np.full_like(known, next(iter(models))) if has_one_model(models) else known


def images_of_model(model: int, half: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Rows of the images that a model is for: those of its half set, or all of them."""
    return np.arange(len(half)) if model == ALL_IMAGES else np.flatnonzero(half == model)


def images_to_test(model: int, half: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Rows of the images that a model may be tested on: where there are two models, those of the
    other half set, since what a model has learnt of its own images by heart must not count.
    """
    if model == ALL_IMAGES:
        return np.arange(len(half))
    (other,) = (number for number in HALVES if number != model)
    return np.flatnonzero(half == other)


def images_by_model(half: Int[np.ndarray, " n"]) -> dict[int, Int[np.ndarray, " m"]]:
    """Rows of the images of each model that has any, the first model first."""
    return {int(model): np.flatnonzero(half == model) for model in np.unique(half)}
