"""How many images a second are trained on, on one thread: sizes of molecule and image × ways of inferring latents.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py

Trains on random images of a random chain: what a step costs does not depend on what the images show. Writes
results/throughput.csv and .md; cryoSPHERE's figures are those that were measured on the same kind of machine.
"""

from __future__ import annotations

import platform
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from bench import RESULTS, Row, markdown, write_csv

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.inference.config import LatentsConfig, SegmentsRunConfig, TrainingConfig
from kinesphere.inference.methods import make_forward, make_model, make_reference
from kinesphere.inference.observations import Observations
from kinesphere.inference.schedule import Schedule, ScheduleConfig
from kinesphere.inference.trainer import Trainer
from kinesphere.io.structure import AtomicModel
from kinesphere.motion.segments import SegmentsConfig


@dataclass(frozen=True)
class Case:
    """Sizes of one measurement; `reference` is what cryoSPHERE 0.6.1 reaches on them, images/s on one thread."""

    residues: int
    box: int
    segments: int
    batch: int
    pixel_size: float
    reference: float | None = None


CASES = (
    Case(214, 64, 10, 64, 1.5, 211.0),
    Case(1000, 128, 25, 32, 1.5, 25.0),
    Case(1300, 64, 30, 64, 4.0),
    Case(14000, 256, 30, 16, 1.5),
)
COLUMNS = ("residues", "box", "segments", "batch", "shells", "method", "images_per_second", "times_cryosphere")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    cases: tuple[int, ...] = (0, 1, 2)
    """Which of the four cases: 214, 1,000, 1,300 and 14,000 residues."""
    epochs: int = 4
    """Passes; the first is not counted."""
    batches: int = 12
    """Batches a pass."""
    resolution_angstrom: tuple[float, ...] = (5.0, 0.0)
    """Finest resolution used: the default, and all of the image as cryoSPHERE does (0)."""
    latent_dim: int = 2
    """Latent dimensions."""
    name: str = "throughput"
    """Name of the tables."""


def main(options: Options) -> None:
    """Measure every case, both methods, at every resolution."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    for number in options.cases:
        for resolution in options.resolution_angstrom:
            rows += measure(CASES[number], resolution, options)
            write_csv(RESULTS / f"{options.name}.csv", rows)
    table = f"{platform.processor() or platform.machine()}, one thread.\n\n{markdown(rows, COLUMNS)}"
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def measure(case: Case, resolution: float, options: Options) -> Iterator[Row]:
    """Train on one case with either method; yields a row each."""
    for method in ("marginal", "vae"):
        latents = LatentsConfig(inference=method, latent_dim=options.latent_dim)
        schedule = ScheduleConfig(epochs=options.epochs, coarse_epochs=0, patience=options.epochs)
        training = TrainingConfig(latents=latents, schedule=schedule, batch_size=case.batch)
        config = SegmentsRunConfig(
            Path("none"), Path("none"), segments=SegmentsConfig(case.segments), training=training
        )
        trainer = make_trainer(case, resolution, config, options.batches * case.batch)
        trainer.fit()
        # the fastest pass: in the others, something else was running too
        speed = max(row["images_per_second"] for row in trainer.progress.history[1:])
        yield {
            "residues": case.residues,
            "box": case.box,
            "segments": case.segments,
            "batch": case.batch,
            "shells": trainer.observations.band.n_shells,
            "method": method,
            "images_per_second": speed,
            "times_cryosphere": speed / case.reference if case.reference else None,
            "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }


def make_trainer(case: Case, resolution: float, config: SegmentsRunConfig, n_images: int) -> Trainer:
    """Prepare training on random images."""
    torch.manual_seed(0)
    reference = make_reference(config, random_chain(case), np.zeros(3))
    extent = case.box * case.pixel_size
    band = FourierBand.of_grid(RenderGrid(case.box, case.pixel_size), int(extent / resolution) if resolution else None)
    observations = random_images(band, n_images)
    schedule = Schedule(config.training.schedule, n_images, band.n_shells, case.batch)
    forward = make_forward(config, reference, band, torch.device("cpu"))
    model = make_model(config, reference, band)
    return Trainer(model, observations, forward, schedule, batch_size=case.batch)


def random_images(band: FourierBand, n: int) -> Observations:
    """Noise in random poses under one CTF."""
    data = torch.randn(n, len(band), dtype=torch.complex64)
    rotation = torch.linalg.qr(torch.randn(n, 3, 3)).Q
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    values = (15000.0, 15000.0, 0.0, 0.0, 300.0, 2.7, 0.1, 0.0, 1.0)
    ctf = CtfParameters(*(torch.full((n,), value) for value in values))
    return Observations(data, rotation, ctf, torch.zeros(n, dtype=torch.int64), band)


def random_chain(case: Case) -> AtomicModel:
    """Residues of one atom each, at random in a ball of a protein's density that fits into the box."""
    rng = np.random.default_rng(0)
    radius = min(2.9 * case.residues ** (1 / 3), 0.4 * case.box * case.pixel_size)
    direction = rng.normal(size=(case.residues, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    n, rows = case.residues, np.arange(case.residues)
    text = np.full(n, "")
    return AtomicModel(
        positions_angstrom=radius * direction * rng.random((n, 1)) ** (1 / 3),
        atomic_number=np.full(n, 6),
        atom_name=np.full(n, "CA"),
        alt_loc=text,
        residue_index=rows,
        b_factor=np.zeros(n),
        occupancy=np.ones(n),
        residue_name=np.full(n, "ALA"),
        chain=np.full(n, "A"),
        insertion_code=text,
        residue_number=rows + 1,
        residue_kind=np.full(n, "protein"),
        centre_atom=rows,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
