"""How many images a CPU-second are trained on, on one thread: methods × sizes of molecule and image
× inference.

    OMP_NUM_THREADS=1 python benchmarks/speed/throughput.py
    python benchmarks/speed/throughput.py --device cuda --batch 512 --name throughput_gpu

Trains on random images of a random chain, or of random pseudo-atoms: what a step costs does not
depend on what the images show. Writes results/throughput.csv and .md. `reference` is what
cryoSPHERE 0.6.1 (segments) and DynaMight (field) were measured to reach on the same kind of
machine, or, with --cryosphere, what that program reaches now. On a GPU the clock on the wall
counts, and no reference is given: those are of one CPU thread.

With --before CHECKOUT, the program in another checkout is measured in turn with this one, case by
case in processes of their own, so that what else the machine does meets both; of the rounds the
fastest counts.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.inference.options import LatentsConfig
from kinesphere.io.structure import AtomicModel
from kinesphere.methods.base import Method
from kinesphere.methods.field import Field, FieldOptions, FieldScheduleConfig, FieldTrainingConfig
from kinesphere.methods.segments import (
    Segments,
    SegmentsConfig,
    SegmentsOptions,
    SegmentsScheduleConfig,
    SegmentsTrainingConfig,
)
from kinesphere.motion.pseudo_atoms import PseudoAtoms
from kinesphere.motion.reference import Reference, build_reference, reference_of_pseudo_atoms
from kinesphere.observations.observations import Observations
from kinesphere.runtime import choose_device
from kinesphere.training.schedule import Schedule
from kinesphere.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, markdown, write_csv


@dataclass(frozen=True)
class Case:
    """Sizes of one measurement; `reference` is what the reference program reaches on them, images/s
    on one thread.
    """

    method: Literal["segments", "field"]
    points: int
    box: int
    batch: int
    pixel_size: float
    reference: float | None = None
    segments: int | None = None


CASES = (
    Case("segments", 214, 64, 64, 1.5, 211.0, segments=10),
    Case("segments", 1000, 128, 32, 1.5, 25.0, segments=25),
    Case("segments", 1300, 64, 64, 4.0, segments=30),
    Case("segments", 14000, 256, 16, 1.5, segments=30),
    Case("field", 500, 64, 64, 1.5, 499.0),
    Case("field", 3000, 128, 64, 1.5, 105.0),
)
COLUMNS = (
    "method",
    "points",
    "box",
    "batch",
    "shells",
    "inference",
    "images_per_second",
    "reference",
    "times",
)
BEFORE = ("before", "faster")
_ROUNDS = 2


@dataclass(frozen=True)
class Options:
    """What to measure."""

    cases: tuple[int, ...] = (0, 1, 2, 4, 5)
    """Which of the cases: segments of 214, 1,000, 1,300 and 14,000 residues; fields of 500 and
    3,000 pseudo-atoms."""
    epochs: int = 4
    """Passes; the first is not counted."""
    batches: int = 12
    """Batches a pass."""
    resolution_angstrom: tuple[float, ...] = (5.0, 0.0)
    """Finest resolution used: the default, and all of the image as the reference programs do
    (0)."""
    latent_dim: int = 2
    """Latent dimensions."""
    cryosphere: str | None = None
    """Command that measures cryoSPHERE in its own environment and prints one JSON object a case."""
    device: str = "cpu"
    """`cpu`, on one thread, or `cuda`."""
    batch: int | None = None
    """Images a step; none: those the reference programs use."""
    name: str = "throughput"
    """Name of the tables."""
    before: Path | None = None
    """Another checkout of the program to be measured in turn with this one."""


def main(options: Options) -> None:
    """Measure every case, both ways of inference, at every resolution."""
    torch.set_num_threads(1)
    device = choose_device(options.device)
    cases = with_peer(options.cryosphere)
    if options.batch is not None:
        cases = [replace(case, batch=options.batch) for case in cases]
    if device.type == "cuda":
        cases = [replace(case, reference=None) for case in cases]
    rows: list[Row] = []
    for number in options.cases:
        for resolution in options.resolution_angstrom:
            if options.before is None:
                rows += measure(cases[number], resolution, options, device)
            else:
                rows += measure_in_turn(number, resolution, options, options.before)
            write_csv(RESULTS / f"{options.name}.csv", rows)
    table = f"{describe(device)}\n\n{markdown(rows, COLUMNS + (BEFORE if options.before else ()))}"
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def measure_in_turn(number: int, resolution: float, options: Options, before: Path) -> list[Row]:
    """Measure one case with another checkout and with this one, in turns; rows of this one beside
    the other's speed.
    """
    here = Path(__file__).parents[2]
    fastest = {}
    for _ in range(_ROUNDS):
        for checkout in (before, here):
            for row in measure_elsewhere(number, resolution, options, checkout):
                key = (checkout, row["inference"])
                fastest[key] = max(
                    row, fastest.get(key, row), key=lambda found: found["images_per_second"]
                )
    rows = [row for (checkout, _), row in fastest.items() if checkout == here]
    for row in rows:
        row["before"] = fastest[before, row["inference"]]["images_per_second"]
        row["faster"] = row["images_per_second"] / row["before"]
    return rows


def measure_elsewhere(
    number: int, resolution: float, options: Options, checkout: Path
) -> Iterator[Row]:
    """Measure one case with the program and the `throughput.py` of a checkout, in a process of its
    own: this script knows the modules of this checkout only.
    """
    script = next(checkout.glob("benchmarks/**/throughput.py"))
    results = checkout / "benchmarks" / "results"
    name = f"{options.name}-part"
    choice = ["--cases", str(number), "--resolution-angstrom", str(resolution), "--name", name]
    pace = [
        "--epochs",
        str(options.epochs),
        "--batches",
        str(options.batches),
        "--latent-dim",
        str(options.latent_dim),
    ]
    more = ["--batch", str(options.batch)] if options.batch is not None else []
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, script, *choice, *pace, *more, "--device", options.device]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    with (results / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {key: as_number(value) for key, value in row.items()}
    for suffix in (".csv", ".md"):
        (results / f"{name}{suffix}").unlink()


def as_number(text: str) -> str | int | float | None:
    """Read a cell of a table."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def with_peer(command: str | None) -> list[Case]:
    """Replace cryoSPHERE's recorded figures by fresh ones, where its environment is at hand."""
    cases = list(CASES)
    if command is None:
        return cases
    printed = subprocess.run(
        shlex.split(command), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    for found in map(json.loads, printed.splitlines()):
        for number, case in enumerate(cases):
            if (case.method, case.points, case.box) == (
                "segments",
                found["residues"],
                found["box"],
            ):
                cases[number] = replace(case, reference=found["images_per_cpu_second"])
    return cases


def describe(device: torch.device) -> str:
    """Say what was timed, and by which clock."""
    if device.type == "cuda":
        return (
            f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}, images a second."
        )
    return f"{platform.processor() or platform.machine()}, one thread, images a CPU-second."


def clock(device: torch.device) -> float:
    """Read the time spent: on the wall once a GPU has done its work, else by this process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def peak_memory_gb(device: torch.device) -> float:
    """Give the most memory used so far: of the GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(case: Case, resolution: float, options: Options, device: torch.device) -> Iterator[Row]:
    """Train on one case with either way of inference; yields a row each."""
    for inference in ("marginal", "vae"):
        latents = LatentsConfig(inference=inference, latent_dim=options.latent_dim)
        method = make_method(case, latents, options)
        trainer = make_trainer(case, resolution, method, options.batches * case.batch, device)
        marks = [clock(device)]
        trainer.fit(report=lambda _, marks=marks: marks.append(clock(device)))
        # the fastest pass: in the others, something else was running too
        seconds = min(np.diff(marks)[1:])
        speed = options.batches * case.batch / seconds
        yield {
            "method": case.method,
            "points": case.points,
            "box": case.box,
            "batch": case.batch,
            "shells": trainer.observations.band.n_shells,
            "inference": inference,
            "images_per_second": speed,
            "reference": case.reference,
            "times": speed / case.reference if case.reference else None,
            "peak_memory_gb": peak_memory_gb(device),
        }


def make_method(case: Case, latents: LatentsConfig, options: Options) -> Method[Any]:
    """Make the method of one case, at full resolution from the start."""
    pace = {"epochs": options.epochs, "coarse_epochs": 0, "patience": options.epochs}
    none = Path("none")
    if case.method == "field":
        field_schedule = FieldScheduleConfig(**pace, reference_epochs=0, replace_reference_every=0)
        training = FieldTrainingConfig(
            latents=latents, schedule=field_schedule, batch_size=case.batch
        )
        return Field(FieldOptions(particles=none, map=none, training=training))
    schedule = SegmentsScheduleConfig(**pace)
    of_segments = SegmentsTrainingConfig(latents=latents, schedule=schedule, batch_size=case.batch)
    return Segments(
        SegmentsOptions(
            particles=none,
            model=none,
            segments=SegmentsConfig(case.segments),
            training=of_segments,
        )
    )


def make_trainer(
    case: Case, resolution: float, method: Method[Any], n_images: int, device: torch.device
) -> Trainer:
    """Prepare training on random images."""
    torch.manual_seed(0)
    reference = random_reference(case, method)
    extent = case.box * case.pixel_size
    band = FourierBand.of_grid(
        RenderGrid(case.box, case.pixel_size), int(extent / resolution) if resolution else None
    )
    observations = random_images(band, n_images)
    schedule = Schedule(method.options.training.schedule, n_images, band.n_shells, case.batch)
    forward = method.make_forward(reference, band, device)
    model = method.make_model(reference, band)
    return Trainer(model, observations, forward, schedule, device=device)


def random_reference(case: Case, method: Method[Any]) -> Reference:
    """Make a random chain, or random pseudo-atoms."""
    chain = random_chain(case)
    if method.moves_atoms:
        return build_reference(chain, np.zeros(3), source="random chain")
    positions = torch.from_numpy(chain.positions_angstrom).float()
    amplitude, width = torch.ones(1, case.points), torch.tensor([4.0])
    return reference_of_pseudo_atoms(
        PseudoAtoms(positions, amplitude, width, torch.zeros(0, 2, dtype=torch.int64))
    )


def random_images(band: FourierBand, n: int) -> Observations:
    """Noise in random poses under one CTF."""
    data = torch.randn(n, len(band), dtype=torch.complex64)
    rotation = torch.linalg.qr(torch.randn(n, 3, 3)).Q
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    values = (15000.0, 15000.0, 0.0, 0.0, 300.0, 2.7, 0.1, 0.0, 1.0)
    ctf = CtfParameters(*(torch.full((n,), value) for value in values))
    return Observations(data, rotation, ctf, torch.zeros(n, dtype=torch.int64), band)


def random_chain(case: Case) -> AtomicModel:
    """Residues of one atom each, at random in a ball of a protein's density that fits into the
    box.
    """
    rng = np.random.default_rng(0)
    radius = min(2.9 * case.points ** (1 / 3), 0.4 * case.box * case.pixel_size)
    direction = rng.normal(size=(case.points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    n, rows = case.points, np.arange(case.points)
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
