"""What later stages ask of a finished run, and its table of latents.

Any run that offers the members of `FinishedRun` can be analysed and shown, whatever moves its
molecules; with those of `RunWithImages` it can be reconstructed and given volumes, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel
from kinesphere.motion.base import Motion
from kinesphere.particles import ParticleSet
from kinesphere.runtime import atomic_write


@dataclass(frozen=True)
class LatentTable:
    """One row a particle: where it lies in the latent space and how sure that is.

    Parameters
    ----------
    index
        (n,) row of each particle in the particle set of the run.
    mean
        (n, d) posterior mean.
    covariance
        (n, d, d) posterior covariance.
    half
        (n,) 1 or 2 where two models were trained, else 0 (`runs.halves`).
    """

    index: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, "n d"]
    covariance: Float[np.ndarray, "n d d"]
    half: Int[np.ndarray, " n"]

    @property
    def std(self) -> Float[np.ndarray, "n d"]:
        """(n, d) posterior standard deviation of each dimension."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    def of(self, rows: Int[np.ndarray, " m"]) -> LatentTable:
        """Give the latents of some particles."""
        return LatentTable(
            self.index[rows], self.mean[rows], self.covariance[rows], self.half[rows]
        )

    def save(self, path: Path) -> None:
        """Write `latents.npz`."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                index=self.index,
                mean=self.mean,
                std=self.std,
                covariance=self.covariance,
                half=self.half,
            )

    @classmethod
    def load(cls, path: Path) -> LatentTable:
        """Read `latents.npz`; dimensions are independent where it holds standard deviations
        only.
        """
        try:
            with np.load(path) as stored:
                known = "covariance" in stored
                covariance = (
                    stored["covariance"]
                    if known
                    else np.eye(stored["std"].shape[1]) * stored["std"][..., None] ** 2
                )
                return cls(stored["index"], stored["mean"], covariance, stored["half"])
        except (OSError, KeyError, ValueError) as error:
            remedy = "Run the training command again: it continues where it stopped"
            raise InputError(path, "holds no latents; the run has not finished", remedy) from error


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
        """Where these particles carry the given points, minus the points; each by the model of its
        half set.
        """


@runtime_checkable
class RunWithImages(FinishedRun, Protocol):
    """A finished run whose images can be read, and whose models can be asked one by one."""

    @property
    def particles(self) -> ParticleSet:
        """The particles."""

    @property
    def motions(self) -> Mapping[int, Motion]:
        """Trained motion models, by half set or one under `runs.halves.ALL_IMAGES`."""

    @property
    def centre_angstrom(self) -> Float[np.ndarray, "3"]:
        """(3,) the box centre in the frame of the model."""

    def residues(self, images: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m residues 3"]:
        """Residue centres of these particles."""
