"""A run of two independently trained half sets, seen through the first: two models have two latent
spaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.io.structure import AtomicModel
from kinesphere.runs.finished_run import FinishedRun, LatentTable

SHOWN_HALF = 1


@dataclass(frozen=True)
class LatentRows:
    """Some rows of a latent table."""

    index: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, "n d"]
    covariance: Float[np.ndarray, "n d d"]
    half: Int[np.ndarray, " n"]

    @property
    def std(self) -> Float[np.ndarray, "n d"]:
        """(n, d) standard deviation of each dimension."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))


@dataclass(frozen=True)
class HalfView:
    """The particles of half set 1 and the model that was trained on them."""

    whole: FinishedRun
    rows: Int[np.ndarray, " n"]
    latents: LatentTable = field(init=False)

    def __post_init__(self) -> None:
        table = self.whole.latents
        chosen = (
            np.asarray(values)[self.rows]
            for values in (table.index, table.mean, table.covariance, table.half)
        )
        object.__setattr__(self, "latents", LatentRows(*chosen))

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.whole.path

    @property
    def config(self) -> Mapping[str, Any]:
        """Resolved configuration."""
        return self.whole.config

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Command, versions, input hashes."""
        return self.whole.provenance

    @property
    def metrics(self) -> Mapping[str, Shaped[np.ndarray, " epochs"]]:
        """Rows of `metrics.csv` that belong to this half."""
        metrics = self.whole.metrics
        if "half" not in metrics:
            return metrics
        shown = np.asarray(metrics["half"]) == SHOWN_HALF
        return {name: np.asarray(values)[shown] for name, values in metrics.items()}

    @property
    def model(self) -> AtomicModel:
        """The atomic model that was moved."""
        return self.whole.model

    @property
    def memberships(self) -> Float[np.ndarray, "residues segments"]:
        """Segments of this half's model."""
        return self.whole.memberships

    def decode(self, z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m residues 3"]:
        """Residue centres by this half's model."""
        return self.whole.decode(z)

    def decode_atoms(self, z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m atoms 3"]:
        """All atoms by this half's model."""
        return self.whole.decode_atoms(z)

    def structures(self, images: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m atoms 3"]:
        """All atoms of these particles of the half."""
        return self.whole.structures(self.rows[images])

    def displacements(
        self, points: Float[np.ndarray, "p 3"], images: Int[np.ndarray, " m"]
    ) -> Float[np.ndarray, "m p 3"]:
        """Displacements in these particles of the half."""
        return self.whole.displacements(points, self.rows[images])


def one_latent_space(run: FinishedRun) -> FinishedRun:
    """Give the run itself, or its first half where two models were trained: their latents cannot be
    mixed.

    Parameters
    ----------
    run
        A finished run; its latents name the half set where there are two.

    Returns
    -------
    FinishedRun
        All of whose latents one model decodes.
    """
    half = np.asarray(run.latents.half)
    if len(np.unique(half)) < 2:
        return run
    return HalfView(run, np.flatnonzero(half == SHOWN_HALF))
