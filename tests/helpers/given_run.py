"""A run whose structures are given instead of learnt, and the truth of adenylate kinase's path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kinesphere.evaluation.truth import Truth
from kinesphere.io.structure import AtomicModel
from kinesphere.motion.base import Unmodelled
from kinesphere.particles import ParticleSet
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.run import Run
from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase

N_IMAGES = 240
BOX, PIXEL = 32, 3.0


class GivenRun(Run):
    """A run of one latent dimension that decodes z to the state z · (n_states − 1),
    interpolated."""

    def __init__(
        self, path: Path, model: AtomicModel, states: np.ndarray, latents: LatentTable
    ) -> None:
        self.path, self.latents, self.states = path, latents, states
        vars(self)["model"] = model  # takes the place of the cached property
        self.centre_angstrom = model.centres_angstrom.mean(axis=0)
        vars(self)["particles"] = SimpleNamespace(
            optics=[SimpleNamespace(box_px=BOX, pixel_size_angstrom=PIXEL)]
        )
        self.config: dict[str, Any] = {"training": {"images": {}}}
        self.error = np.zeros(3)

    @property
    def unmodelled(self) -> Unmodelled:
        return Unmodelled()

    def decode(self, z: np.ndarray, half: int | None = None) -> np.ndarray:  # noqa: ARG002 - one model for all images
        place = np.clip(z[:, 0], 0.0, 1.0) * (len(self.states) - 1)
        low = np.minimum(place.astype(int), len(self.states) - 2)
        weight = (place - low)[:, None, None]
        return (1 - weight) * self.states[low] + weight * self.states[low + 1] + self.error

    def residues(self, images: np.ndarray) -> np.ndarray:
        return self.decode(self.latents.mean[images])


@pytest.fixture(scope="session")
def ensemble() -> Ensemble:
    """Adenylate kinase in 11 states, from closed to open."""
    return adenylate_kinase(11)


@pytest.fixture
def truth(ensemble: Ensemble) -> Truth:
    """Every state in turn."""
    model, rows = ensemble.model, ensemble.shown_residues
    state = np.arange(N_IMAGES) % ensemble.n_states
    return Truth(
        source=Path("truth.npz"),
        state=state,
        coordinate=ensemble.coordinate[state],
        ca_states=ensemble.positions[:, model.centre_atom[rows]],
        state_coordinate=ensemble.coordinate,
        chain=model.chain[rows],
        residue_number=model.residue_number[rows],
        insertion_code=model.insertion_code[rows],
    )


@pytest.fixture
def make_run(ensemble: Ensemble, truth: Truth, tmp_path: Path) -> Callable[..., GivenRun]:
    """Make a run with these latents (the true coordinate by default) and their standard
    deviation."""

    def make(mean: np.ndarray | None = None, std: float = 0.01) -> GivenRun:
        z = (truth.coordinate if mean is None else mean).astype(np.float32)
        n = len(z)
        covariance = np.tile(std**2 * np.eye(z.shape[1], dtype=np.float32), (n, 1, 1))
        latents = LatentTable(np.arange(n), z, covariance, np.zeros(n, np.int64))
        return GivenRun(
            tmp_path, ensemble.model, ensemble.positions[:, ensemble.model.centre_atom], latents
        )

    return make


@pytest.fixture
def given_run(tmp_path: Path) -> Callable[..., GivenRun]:
    """Make a run of real files that has learnt nothing: for what needs its particles and its model
    only."""

    def make(model: AtomicModel, particles: ParticleSet, centre: np.ndarray) -> GivenRun:
        n = len(particles)
        still = np.zeros((n, 1), np.float32)
        latents = LatentTable(np.arange(n), still, still[:, None], np.zeros(n, np.int64))
        run = GivenRun(tmp_path, model, np.repeat(model.centres_angstrom[None], 2, axis=0), latents)
        vars(run)["particles"] = particles
        run.centre_angstrom = centre
        return run

    return make
