"""A run of two independently trained half sets, seen through the first: two models have two latent
spaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.io.structure import AtomicModel
from kinesphere.runs.finished_run import FinishedRun, LatentTable
from kinesphere.runs.halves import FIRST_HALF, images_by_model, images_of_model


@dataclass(frozen=True)
class FirstHalf:
    """The particles of half set 1 and the model that was trained on them."""

    whole: FinishedRun

    @cached_property
    def rows(self) -> Int[np.ndarray, " n"]:
        """(n,) rows of those particles in the whole run."""
        return images_of_model(FIRST_HALF, np.asarray(self.whole.latents.half))

    @cached_property
    def latents(self) -> LatentTable:
        """Their latents."""
        return self.whole.latents.of(self.rows)

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
        shown = np.asarray(metrics["half"]) == FIRST_HALF
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
    has_two_models = len(images_by_model(np.asarray(run.latents.half))) > 1
    return FirstHalf(run) if has_two_models else run
