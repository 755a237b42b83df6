"""A finished run whose motion is the truth: simulated adenylate kinase in a few states."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from kinesphere.particles import ParticleSet
from kinesphere.simulate.dataset import write_dataset
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.recipe import Recipe
from kinesphere.simulate.scattering import potential_map

BOX, PIXEL_ANGSTROM, N_STATES = 48, 2.0, 7
B_FACTOR = 60.0


@dataclass(frozen=True)
class Simulated:
    """A particle set on disk and what it shows.

    Attributes
    ----------
    folder
        Holds particles.star.
    state
        (n,) what each image shows.
    ca_states
        (n_states, n_residues, 3) Å, the box centre at zero.
    true_map
        (n, n, n) potential of state 0.
    """

    folder: Path
    state: np.ndarray
    ca_states: np.ndarray
    true_map: np.ndarray


def simulate(folder: Path, n: int, snr: float, **recipe: Any) -> Simulated:
    """Make the particles."""
    ensemble = adenylate_kinase(N_STATES).centred()
    settings = Recipe(
        n=n, box=BOX, pixel_size=PIXEL_ANGSTROM, snr=snr, seed=4, b_factor=B_FACTOR, **recipe
    )
    draws = write_dataset(folder, ensemble, settings, "A test.")
    true_map = potential_map(
        ensemble.positions[0], ensemble.model.atomic_number, BOX, PIXEL_ANGSTROM, B_FACTOR
    )
    return Simulated(
        folder, draws.state, ensemble.positions[:, ensemble.model.centre_atom], true_map
    )


@dataclass
class KnownRun:
    """Offers what a reconstruction asks of a run, with the true motion from state 0.

    Parameters
    ----------
    data
        The particles.
    path
        The run folder.
    halves
        Whether two models were trained: both know the truth.
    config
        As `run.yaml` would hold it.
    """

    data: Simulated
    path: Path
    halves: bool = True
    config: dict[str, Any] = field(default_factory=dict)
    centre_angstrom: np.ndarray = field(
        default_factory=lambda: np.full(3, PIXEL_ANGSTROM * (BOX // 2))
    )

    def __post_init__(self) -> None:
        self.particles = ParticleSet.read(self.data.folder / "particles.star")
        half = self.particles.half if self.halves else np.zeros_like(self.particles.half)
        self.latents = SimpleNamespace(mean=self.data.state[:, None].astype(np.float32), half=half)
        reference = torch.from_numpy(self.data.ca_states[0]).float()
        model = SimpleNamespace(reference=reference)
        self.motions = {1: model, 2: model} if self.halves else {0: model}

    def displacements(self, points: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Move with the nearest residue."""
        states = self.data.ca_states
        owner = cKDTree(states[0]).query(points - self.centre_angstrom)[1]
        moved: np.ndarray = (states - states[0])[self.data.state[images]][:, owner]
        return moved
