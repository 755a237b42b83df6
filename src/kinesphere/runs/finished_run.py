"""What the analysis needs of a finished run: any motion model that offers these members can be
analysed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.io.structure import AtomicModel


@runtime_checkable
class LatentTable(Protocol):
    """One row a particle: where it lies in the latent space and how sure that is."""

    @property
    def index(self) -> Int[np.ndarray, " n"]:
        """(n,) row of each particle in the particle file."""

    @property
    def mean(self) -> Float[np.ndarray, "n d"]:
        """(n, d) posterior means."""

    @property
    def covariance(self) -> Float[np.ndarray, "n d d"]:
        """(n, d, d) posterior covariances."""

    @property
    def std(self) -> Float[np.ndarray, "n d"]:
        """(n, d) posterior standard deviations."""

    @property
    def half(self) -> Int[np.ndarray, " n"]:
        """(n,) half set 1 or 2 where two models were trained, else 0."""


@runtime_checkable
class FinishedRun(Protocol):
    """A run that can decode its latents into structures; lengths in Å, in the frame of the
    model.
    """

    @property
    def path(self) -> Path:
        """The run folder."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Resolved configuration, nested."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What else `run.yaml` records: command, versions, input hashes."""

    @property
    def metrics(self) -> Mapping[str, Shaped[np.ndarray, " epochs"]]:
        """Columns of `metrics.csv`."""

    @property
    def model(self) -> AtomicModel:
        """The atomic model that was moved."""

    @property
    def latents(self) -> LatentTable:
        """The particles in the latent space."""

    @property
    def memberships(self) -> Float[np.ndarray, "residues segments"]:
        """Soft assignment of residues to segments; the argmax is the segment."""

    def decode(self, z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m residues 3"]:
        """Residue centres at the latents `z`."""

    def decode_atoms(self, z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m atoms 3"]:
        """All atoms at the latents `z`."""

    def structures(self, images: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m atoms 3"]:
        """All atoms of these particles."""

    def displacements(
        self, points: Float[np.ndarray, "p 3"], images: Int[np.ndarray, " m"]
    ) -> Float[np.ndarray, "m p 3"]:
        """Where these particles carry the given points, minus the points."""
