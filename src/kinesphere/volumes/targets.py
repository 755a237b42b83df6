"""Places of the latent space at which volumes are made, for each half set in the space of its own
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from kinesphere.analysis.latent import cluster, latent_components
from kinesphere.errors import InputError
from kinesphere.reconstruction.problem import Problem, ReconstructableRun
from kinesphere.runs.finished_run import LatentTable
from kinesphere.volumes.structure_volumes import StructuresOfImages

Method = Literal["kernel", "decoder"]
_IMAGES_AT_ONCE = 64
_MATCHED = 20


@dataclass(frozen=True)
class VolumeSettings:
    """Where in the latent space volumes are made, and how."""

    clusters: int | None = None
    """Volumes at the particles that stand for this many k-means clusters."""
    traverse: int | None = None
    """Volumes at quantiles along this component of the latents, from 1 (the default: 1)."""
    steps: int = 5
    """Volumes along the component: the medians of that many equal parts of the particles."""
    at: str | None = None
    """One volume at this place of the latent space: z1,z2,… (of half set 1's space where there are
    two)."""
    method: Literal["both", "kernel", "decoder"] = "both"
    """Weight the images near a place (kernel), train a decoder on all of them (decoder), or compare
    the two."""
    fraction: float = 0.2
    """Effective number of images behind a kernel volume, as a fraction of a half set; it sets the
    bandwidth."""
    seed: int = 0
    """Seed of clusters, of the decoder, and of half sets where particles have none."""

    @property
    def methods(self) -> tuple[Method, ...]:
        """The ways volumes are made."""
        return ("kernel", "decoder") if self.method == "both" else (self.method,)

    def require_sensible(self) -> None:
        """Refuse values that mean nothing.

        Raises
        ------
        InputError
            Naming the option.
        """
        if sum(value is not None for value in (self.clusters, self.traverse, self.at)) > 1:
            raise InputError(
                "--clusters, --traverse, --at", "exclude each other", "Give one of them"
            )
        if self.clusters is not None and self.clusters < 1:
            raise InputError(
                "--clusters", f"{self.clusters} is not a number of clusters", "Use 1 or more"
            )
        if self.steps < 1:
            raise InputError("--steps", f"{self.steps} is not a number of volumes", "Use 1 or more")
        if not 0 < self.fraction <= 1:
            raise InputError(
                "--fraction",
                f"{self.fraction:g} is not a fraction",
                "Use a number above 0, at most 1",
            )


@runtime_checkable
class VolumeRun(ReconstructableRun, StructuresOfImages, Protocol):
    """A finished run whose latents have covariances."""

    @property
    def latents(self) -> LatentTable:
        """One row a particle."""


def choose_targets(
    run: VolumeRun, problem: Problem, settings: VolumeSettings
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
    is_shared = len(run.motions) == 1
    rows = np.arange(len(problem.half)) if is_shared else problem.rows(1)
    mean, covariance = run.latents.mean[rows], run.latents.covariance[rows]
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
    return {1: places, 2: places if is_shared else in_second_space(run, problem, places)}


def in_second_space(
    run: VolumeRun, problem: Problem, places: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "m d"]:
    """Find the places of half set 2's latent space that show what places of half set 1's do; see
    `choose_targets`.
    """
    first, second = problem.rows(1), problem.rows(2)
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
    found: Float[np.ndarray, "m d"] = mean[second[nearest]].mean(0, dtype=np.float64)
    return found


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
