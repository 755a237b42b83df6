"""A training job from input files to a finished run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kinesphere.inference.config import SegmentsRunConfig
from kinesphere.inference.frame import find_centre, require_fit, require_inside, require_match
from kinesphere.inference.methods import make_forward, make_model, make_reference
from kinesphere.inference.observations import Observations
from kinesphere.inference.observe import observe
from kinesphere.inference.run_folder import LatentTable, describe_device, start_folder, write_metrics, write_particles
from kinesphere.inference.schedule import Schedule
from kinesphere.inference.trainer import Trainer
from kinesphere.io.checkpoint import has_checkpoint
from kinesphere.io.structure import AtomicModel, read_model, write_model
from kinesphere.motion.reference import Reference
from kinesphere.particles import ParticleSet, assign_halves
from kinesphere.runtime import Interrupts, choose_device, console, interrupts, seed_everything, set_threads

ALL_IMAGES = 0


@dataclass(frozen=True)
class Job:
    """What a job works on.

    Parameters
    ----------
    folder
        The run folder.
    config
        What the user asked for.
    particles, model, reference
        Inputs, as read.
    centre_angstrom
        (3,) the box centre in the frame of the model.
    """

    folder: Path
    config: SegmentsRunConfig
    particles: ParticleSet
    model: AtomicModel
    reference: Reference
    centre_angstrom: NDArray[np.float64]


def run_segments(config: SegmentsRunConfig, folder: Path) -> None:
    """Run cryoSPHERE: train segments on the particles, infer every image's conformation, fill the run folder.

    The same call on an unfinished folder continues it; on a finished one it changes nothing.

    Parameters
    ----------
    config
        The run's configuration.
    folder
        The run folder.
    """
    set_threads(config.training.threads)
    seed_everything(config.training.seed)
    job = prepare(config, folder)
    device = choose_device(config.training.device)
    with console.logging_to(folder / "log.txt"), interrupts() as flag:
        n_residues = len(job.reference.points)
        console.print(f"{len(job.particles)} particles, {n_residues} residues, on {describe_device(device)}")
        train(job, device, flag)


def prepare(config: SegmentsRunConfig, folder: Path) -> Job:
    """Read and check the inputs, and start (or find again) the run folder.

    Raises
    ------
    InputError
        For anything about the inputs that would make the run fail or mean nothing.
    """
    particles = ParticleSet.read(config.particles, passthrough=config.passthrough)
    particles.require_poses()
    model = read_model(config.model)
    centre = find_centre(particles, config.map)
    reference = make_reference(config, model, centre)
    first = particles.optics[int(particles.optics_group[0])]
    box_px = first.box_px or particles.images([0]).shape[-1]
    require_inside(reference, 0.5 * box_px * first.pixel_size_angstrom, config.model)
    if config.map is not None:
        require_fit(reference, config.map, config.model)
    if config.training.halves:
        particles = assign_halves(particles, config.training.seed)
    inputs = [path for path in (config.particles, config.passthrough, config.model, config.map) if path is not None]
    start_folder(folder, "segments", config, inputs, {"centre_angstrom": centre.tolist()})
    if not (folder / "model.cif").exists():
        write_model(folder / "model.cif", model)
    return Job(folder, config, particles, model, reference, centre)


def train(job: Job, device: torch.device, flag: Interrupts) -> None:
    """Train on all images, or on each half set, and write what was found."""
    training, particles = job.config.training, job.particles
    with _bar("Preparing images", len(particles)) as advance:
        observations = observe(particles, training.images, job.folder / "cache" / "images.bin", advance)
    halves = (1, 2) if training.halves else (ALL_IMAGES,)
    n, d = len(particles), training.latents.latent_dim
    mean, std = np.zeros((n, d), np.float32), np.zeros((n, d), np.float32)
    history: dict[int, list[dict[str, float]]] = {}
    for half in halves:
        rows = np.arange(n) if half == ALL_IMAGES else np.flatnonzero(particles.half == half)
        subset = observations if half == ALL_IMAGES else observations.subset(torch.from_numpy(rows))
        trainer = make_trainer(job, subset, half, device)
        require_match(trainer.statistics_at_rest, job.config.particles)
        _fit(job, trainer, half, history, flag)
        with _bar("Inferring conformations", len(rows)) as advance:
            posterior = trainer.infer(report=advance)
        mean[rows], std[rows] = posterior.mean.numpy(), posterior.std.numpy()
    label = particles.half if training.halves else np.zeros(n, np.int64)
    latents = LatentTable(np.arange(n), mean, std, label)
    write_particles(job.folder / "particles.star", particles, latents)
    latents.save(job.folder / "latents.npz")
    (job.folder / "cache" / "images.bin").unlink(missing_ok=True)
    console.print(f"Wrote one conformation per particle to {job.folder}")


def make_trainer(job: Job, observations: Observations, half: int, device: torch.device) -> Trainer:
    """Make the trainer of one set of images; random draws depend on the seed and the half only."""
    training = job.config.training
    seed = training.seed + half
    torch.manual_seed(seed)
    schedule = Schedule(training.schedule, len(observations), observations.band.n_shells, training.batch_size)
    return Trainer(
        make_model(job.config, job.reference, observations.band),
        observations,
        make_forward(job.config, job.reference, observations.band, device),
        schedule,
        seed=seed,
        batch_size=training.batch_size,
        device=device,
        checkpoints=checkpoint_folder(job.folder, half),
    )


def checkpoint_folder(folder: Path, half: int) -> Path:
    """Folder of the checkpoints of one model of a run."""
    return folder / "checkpoints" if half == ALL_IMAGES else folder / "checkpoints" / f"half{half}"


def _fit(job: Job, trainer: Trainer, half: int, history: dict[int, list[dict[str, float]]], flag: Interrupts) -> None:
    if trainer.checkpoints is not None and has_checkpoint(trainer.checkpoints):
        trainer.resume()
        console.print(f"Continuing at epoch {trainer.progress.epoch + 1}, step {trainer.progress.step}")
    history[half] = trainer.progress.history

    def report(metrics: dict[str, float]) -> None:
        write_metrics(job.folder / "metrics.csv", history)
        console.print(_epoch_line(metrics, trainer.schedule.epochs))

    done = trainer.progress.epoch * len(trainer.observations) + trainer.progress.batch * trainer.batch_size
    name = "Training" if half == ALL_IMAGES else f"Training half {half}"
    with _bar(name, trainer.schedule.epochs * len(trainer.observations), done) as advance:
        trainer.fit(flag, report, advance)
    write_metrics(job.folder / "metrics.csv", history)


def _epoch_line(metrics: dict[str, float], n_epochs: int) -> str:
    return (
        f"epoch {metrics['epoch']:.0f}/{n_epochs}  log-likelihood {metrics['log_likelihood']:.2f} an image"
        f"  {metrics['shells']:.0f} shells  {metrics['images_per_second']:.0f} images/s"
    )


@contextmanager
def _bar(name: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and remaining time; yields the function that moves it on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda step: bar.advance(task, step)
