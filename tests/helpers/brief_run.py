"""A finished run of segments that has hardly begun to learn, on few images of adenylate kinase."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.small_set import simulate_set
from kinesphere.methods.segments import Segments, SegmentsOptions
from kinesphere.runs.job import run_job

N_IMAGES = 48
LATENT_DIM = 2


def brief_method(data: Path) -> Segments:
    """Segments on that set, for one pass."""
    options = SegmentsOptions(
        particles=data / "particles.star",
        model=data / "model.cif",
        map=data / "consensus.mrc",
    )
    training = options.training
    brief = replace(
        training,
        schedule=replace(training.schedule, epochs=1),
        latents=replace(training.latents, n_nodes=8, latent_dim=LATENT_DIM),
        batch_size=16,
        threads=1,
    )
    return Segments(replace(options, training=brief))


@pytest.fixture(scope="session")
def brief_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The particles."""
    folder = tmp_path_factory.mktemp("brief") / "set"
    simulate_set(folder, N_IMAGES, seed=4)
    return folder


@pytest.fixture(scope="session")
def brief_run(brief_set: Path) -> Path:
    """The run folder."""
    folder = brief_set.parent / "run"
    run_job(brief_method(brief_set), folder)
    return folder
