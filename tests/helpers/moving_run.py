"""A finished run whose motion is the truth: simulated adenylate kinase in a few states."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from kinesphere.io.structure import AtomicModel
from kinesphere.particles import ParticleSet
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.halves import model_keys
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
    model
        State 0, the box centre at zero.
    states
        (n_states, n_atoms, 3) Å, the box centre at zero.
    """

    folder: Path
    state: np.ndarray
    ca_states: np.ndarray
    true_map: np.ndarray
    model: AtomicModel
    states: np.ndarray


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
        folder=folder,
        state=draws.state,
        ca_states=ensemble.positions[:, ensemble.model.centre_atom],
        true_map=true_map,
        model=replace(ensemble.model, positions_angstrom=ensemble.positions[0]),
        states=ensemble.positions,
    )


@dataclass
class KnownRun:
    """Offers what `kinesphere.runs.finished_run.RunWithImages` asks for, with the true motion from
    state 0; the number of the state is the latent.

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
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    centre_angstrom: np.ndarray = field(
        default_factory=lambda: np.full(3, PIXEL_ANGSTROM * (BOX // 2))
    )

    def __post_init__(self) -> None:
        self.particles = ParticleSet.read(self.data.folder / "particles.star")
        half = self.particles.half if self.halves else np.zeros_like(self.particles.half)
        n = len(self.particles)
        mean = self.data.state[:, None].astype(np.float32)
        self.latents = LatentTable(np.arange(n), mean, np.full((n, 1, 1), 1e-4, np.float32), half)
        place = self.data.model.positions_angstrom + self.centre_angstrom
        self.model = replace(self.data.model, positions_angstrom=place)
        self.memberships = np.ones((self.model.n_residues, 1))
        reference = torch.from_numpy(self.data.ca_states[0]).float()
        model = SimpleNamespace(reference=reference)
        self.motions = dict.fromkeys(model_keys(two_models=self.halves), model)

    def decode_atoms(self, z: np.ndarray) -> np.ndarray:
        """The state whose number is nearest."""
        last = len(self.data.states) - 1
        return self.data.states[z[:, 0].round().astype(int).clip(0, last)] + self.centre_angstrom

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Its residue centres."""
        return self.decode_atoms(z)[:, self.model.centre_atom]

    def structures(self, images: np.ndarray) -> np.ndarray:
        """The true state of each image."""
        return self.decode_atoms(self.latents.mean[images])

    def residues(self, images: np.ndarray) -> np.ndarray:
        """Its residue centres."""
        return self.decode(self.latents.mean[images])

    def displacements(self, points: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Move with the nearest residue."""
        states = self.data.ca_states
        owner = cKDTree(states[0]).query(points - self.centre_angstrom)[1]
        moved: np.ndarray = (states - states[0])[self.data.state[images]][:, owner]
        return moved
