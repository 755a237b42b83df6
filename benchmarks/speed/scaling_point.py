"""One point of scaling.py, in a process of its own: how fast one phase of the program is at one
size.

    OMP_NUM_THREADS=1 python benchmarks/speed/scaling_point.py --phase field --box 64 \
        --points 500 --out point.json

Phases: `observe` (read, normalise and transform images), `segments` and `field` (training, marginal
inference), `infer` (latents of a finished model), `reconstruct` (deformed backprojection). Images
are noise in random poses: a step costs the same whatever they show, but for marginal inference,
which is quicker where the posterior of an image is narrow. They come from a star file that names
the images of a small stack again and again, and are prepared into a file on disk, not memory.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import torch
import tyro
from throughput import Case, Options, make_method, random_chain, random_reference

from kinesphere.inference.options import LatentsConfig
from kinesphere.io.mrc import stack_writer
from kinesphere.observations.observations import Observations
from kinesphere.observations.options import ImagesConfig
from kinesphere.observations.prepare import prepare_images
from kinesphere.particles import ParticleSet
from kinesphere.reconstruction.backprojection import HalfSums, Sweep, accumulate
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.training.schedule import Schedule
from kinesphere.training.trainer import Trainer

PIXEL_SIZE_ANGSTROM = 1.5
_STACK = 256
_PASSES = 3
_OPTICS = (
    "\ndata_optics\n\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnAmplitudeContrast\n"
    "_rlnSphericalAberration\n_rlnVoltage\n_rlnImagePixelSize\n_rlnImageSize\n"
    "_rlnImageDimensionality\n1 all 0.1 2.7 300 {pixel} {box} 2\n\n"
)
_COLUMNS = (
    *("ImageName", "AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst"),
    *("DefocusU", "DefocusV", "DefocusAngle", "PhaseShift", "RandomSubset", "OpticsGroup"),
)


@dataclass(frozen=True)
class Point:
    """What to measure."""

    out: Path
    """JSON file for the result."""
    phase: Literal["observe", "segments", "field", "infer", "reconstruct"] = "segments"
    """What is measured."""
    box: int = 64
    """Box size in pixels of 1.5 Å."""
    points: int = 1000
    """Residues, or Gaussians of a field."""
    batch: int = 64
    """Images a step."""
    images: int = 512
    """Images a pass."""


@dataclass
class MadeUpRun:
    """What a reconstruction asks of a finished run, with a smooth motion made up."""

    path: Path
    particles: ParticleSet
    centre_angstrom: np.ndarray
    reference: np.ndarray
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Give each image a latent, and each half set the same reference."""
        latent = np.random.default_rng(0).normal(size=(len(self.particles), 1)).astype(np.float32)
        self.latents = SimpleNamespace(mean=latent, half=self.particles.half)
        self.motions = dict.fromkeys(
            (1, 2), SimpleNamespace(reference=torch.from_numpy(self.reference).float())
        )

    def displacements(self, points: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Bend everything along x by up to a few Å."""
        bent = np.zeros((len(images), *points.shape))
        bent[:, :, 0] = 2.0 * self.latents.mean[images] * np.sin(points[:, 2] / 20.0)
        return bent


def main(point: Point) -> None:
    """Measure, and write the images a CPU-second."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        particles = make_particles(Path(folder), point)
        passes = {"observe": observing, "reconstruct": reconstructing}.get(point.phase, training)
        seconds = passes(particles, Path(folder), point)
    # the first pass compiles and fills caches; of the others the fastest, where least else was
    # running
    speed = point.images / min(seconds[1:])
    point.out.write_text(json.dumps({"images_per_second": speed}), encoding="utf-8")


def repeated(one_pass: Callable[[], object]) -> list[float]:
    """CPU-seconds of some passes."""
    seconds = []
    for _ in range(_PASSES):
        started = time.process_time()
        one_pass()
        seconds.append(time.process_time() - started)
    return seconds


def make_particles(folder: Path, point: Point) -> ParticleSet:
    """Write a small stack of noise, and a star file with as many particles as wanted."""
    rng = np.random.default_rng(0)
    n_stack = min(_STACK, point.images)
    with stack_writer(
        folder / "noise.mrcs", (n_stack, point.box, point.box), PIXEL_SIZE_ANGSTROM
    ) as stack:
        stack.write(rng.normal(size=(n_stack, point.box, point.box)).astype(np.float32))
    angles = rng.uniform(
        (-180, 0, -180, -2, -2, 8000), (180, 180, 180, 2, 2, 25000), size=(point.images, 6)
    ).round(3)
    with (folder / "particles.star").open("w", encoding="utf-8") as star:
        star.write(
            _OPTICS.format(pixel=PIXEL_SIZE_ANGSTROM, box=point.box) + "data_particles\n\nloop_\n"
        )
        star.writelines(f"_rln{column}\n" for column in _COLUMNS)
        for row, (*pose, defocus) in enumerate(angles):
            words = [
                f"{row % n_stack + 1:06d}@noise.mrcs",
                *pose,
                defocus,
                defocus,
                0,
                0,
                row % 2 + 1,
                1,
            ]
            star.write(" ".join(map(str, words)) + "\n")
    return ParticleSet.read(folder / "particles.star")


def prepared(particles: ParticleSet, folder: Path) -> Observations:
    """Prepare the images into a file without a name, as large sets are."""
    return prepare_images(particles, ImagesConfig(memory_gigabytes=0.0), folder)


def observing(particles: ParticleSet, folder: Path, _point: Point) -> list[float]:
    """Prepare all images."""
    return repeated(lambda: prepared(particles, folder))


def training(particles: ParticleSet, folder: Path, point: Point) -> list[float]:
    """Train for some passes, or infer the latents of all images."""
    name = "field" if point.phase == "field" else "segments"
    case = Case(name, point.points, point.box, point.batch, PIXEL_SIZE_ANGSTROM)
    method = make_method(case, LatentsConfig(), Options(epochs=_PASSES))
    reference = random_reference(case, method)
    observations = prepared(particles, folder)
    schedule = Schedule(
        method.options.training.schedule, point.images, observations.band.n_shells, point.batch
    )
    forward = method.make_forward(reference, observations.band, torch.device("cpu"))
    model = method.make_model(reference, observations.band)
    trainer = Trainer(model, observations, forward, schedule)
    if point.phase == "infer":
        return repeated(trainer.infer)
    marks = [time.process_time()]
    trainer.fit(report=lambda _: marks.append(time.process_time()))
    return [float(seconds) for seconds in np.diff(marks)]


def reconstructing(particles: ParticleSet, folder: Path, point: Point) -> list[float]:
    """Backproject all images along a made-up motion."""
    chain = random_chain(
        Case("segments", point.points, point.box, point.batch, PIXEL_SIZE_ANGSTROM)
    )
    middle = np.full(3, point.box // 2 * PIXEL_SIZE_ANGSTROM)
    run = MadeUpRun(folder, particles, middle, chain.positions_angstrom)
    problem = pose_problem(cast("Any", run), ReconstructionSettings())
    rows = np.arange(len(particles))
    images = WeightedImages(
        particles, problem.loader, noise_power(particles, problem.loader, rows, point.batch)
    )
    sweep = Sweep(images, rows, DeformedProjector(problem.support), problem.motion)
    return repeated(lambda: accumulate(sweep, HalfSums.empty(problem.support)))


if __name__ == "__main__":
    main(tyro.cli(Point, description=__doc__))
