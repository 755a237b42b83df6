"""A training job from input files to a finished run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kinesphere.inference.config import SegmentsRunConfig
from kinesphere.inference.frame import (
    find_centre,
    require_best_placement,
    require_contrast,
    require_fit,
    require_inside,
    require_match,
)
from kinesphere.inference.methods import make_forward, make_model, make_reference, resolve
from kinesphere.inference.observations import Observations
from kinesphere.inference.observe import observe
from kinesphere.inference.placement import compare_placements
from kinesphere.inference.run_folder import (
    LatentTable,
    describe_device,
    is_same_run,
    write_metrics,
    write_particles,
    write_run_file,
)
from kinesphere.inference.schedule import Schedule
from kinesphere.inference.trainer import Trainer
from kinesphere.io.checkpoint import has_checkpoint
from kinesphere.io.structure import AtomicModel, read_model, write_model
from kinesphere.motion.reference import Reference
from kinesphere.particles import ParticleSet, assign_halves
from kinesphere.runtime import Interrupts, choose_device, claimed, console, interrupts, seed_everything, set_threads

ALL_IMAGES = 0
_METHOD = "segments"


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

    @property
    def inputs(self) -> list[Path]:
        """The files that the user gave."""
        files = (self.config.particles, self.config.passthrough, self.config.model, self.config.map)
        return [path for path in files if path is not None]

    @property
    def frame(self) -> dict[str, list[float]]:
        """Where zero is, as run.yaml records it."""
        return {"centre_angstrom": self.centre_angstrom.tolist()}


def run_segments(config: SegmentsRunConfig, folder: Path) -> None:
    """Run cryoSPHERE: train segments on the particles, infer every image's conformation, fill the run folder.

    The same call on an unfinished folder continues it; on a finished one it changes nothing. Inputs that are refused
    leave no folder behind.

    Parameters
    ----------
    config
        The run's configuration.
    folder
        The run folder.
    """
    config.require_sensible()
    set_threads(config.training.threads)
    seed_everything(config.training.seed)
    device = choose_device(config.training.device)
    with claimed(folder), interrupts() as flag:
        job = prepare(config, folder)
        known = is_same_run(folder, _METHOD, job.config, job.inputs, job.frame)
        if known and (folder / "latents.npz").exists():
            console.print(f"{folder} holds this run already, finished.", highlight=False)
            return
        observations = _observe(job, flag)
        trainers = make_trainers(job, observations, device)
        if not known:
            require_agreement(job, observations, trainers)
            write_run_file(folder, _METHOD, job.config, job.inputs, job.frame)
        write_model(folder / "model.cif", job.model)
        with console.logging_to(folder / "log.txt"):
            n_residues = len(job.reference.points)
            console.print(f"{len(job.particles)} particles, {n_residues} residues, on {describe_device(device)}")
            train(job, trainers, flag)


def prepare(config: SegmentsRunConfig, folder: Path) -> Job:
    """Read the inputs, and check all that can be told without the images.

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
    if config.map is not None and not config.ignore_misfit:
        require_fit(reference, config.map, config.model)
    if config.training.halves:
        particles = assign_halves(particles, config.training.seed)
    n_models = 2 if config.training.halves else 1
    resolved = resolve(config, len(reference.points), len(particles) // n_models)
    return Job(folder, resolved, particles, model, reference, centre)


def require_agreement(job: Job, observations: Observations, trainers: Mapping[int, Trainer]) -> None:
    """Refuse images that show something else than the model, or show it elsewhere.

    Raises
    ------
    InputError
        Saying what the images show instead.
    """
    for trainer in trainers.values():
        require_contrast(trainer.statistics_at_rest, job.config.particles)
    if not job.config.ignore_misfit:
        trainer = next(iter(trainers.values()))
        as_it_lies, best = compare_placements(trainer.forward, trainer.beads, observations)
        require_best_placement(as_it_lies, best, observations.band.field_of_view_angstrom, job.config.model)
    for trainer in trainers.values():
        require_match(trainer.statistics_at_rest, job.config.particles)


def train(job: Job, trainers: Mapping[int, Trainer], flag: Interrupts) -> None:
    """Train the model of all images, or those of the half sets, and write what was found."""
    n, d = len(job.particles), job.config.training.latents.latent_dim
    mean, covariance = np.zeros((n, d), np.float32), np.zeros((n, d, d), np.float32)
    history: dict[int, list[dict[str, float]]] = {}
    for half, trainer in trainers.items():
        rows = _rows(job.particles, half)
        _fit(job, trainer, half, history, flag)
        with _bar("Inferring conformations", len(rows), flag) as advance:
            posterior = trainer.infer(report=advance)
        mean[rows], covariance[rows] = posterior.mean.numpy(), posterior.covariance.numpy()
    label = job.particles.half if job.config.training.halves else np.zeros(n, np.int64)
    latents = LatentTable(np.arange(n), mean, covariance, label)
    write_particles(job.folder / "particles.star", job.particles, latents)
    latents.save(job.folder / "latents.npz")
    console.print(f"Wrote one conformation per particle to {job.folder}")


def make_trainers(job: Job, observations: Observations, device: torch.device) -> dict[int, Trainer]:
    """Make the trainer of all images, or one for each half set, by the number of the half."""
    if not job.config.training.halves:
        return {ALL_IMAGES: make_trainer(job, observations, ALL_IMAGES, device)}
    subsets = {half: observations.subset(torch.from_numpy(_rows(job.particles, half))) for half in (1, 2)}
    return {half: make_trainer(job, subset, half, device) for half, subset in subsets.items()}


def _rows(particles: ParticleSet, half: int) -> NDArray[np.int64]:
    return np.arange(len(particles)) if half == ALL_IMAGES else np.flatnonzero(particles.half == half)


def _observe(job: Job, flag: Interrupts) -> Observations:
    with _bar("Preparing images", len(job.particles), flag) as advance:
        return observe(job.particles, job.config.training.images, job.folder, advance)


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
    total = trainer.schedule.epochs * len(trainer.observations)
    with _bar(name, total, done=done) as advance:
        trainer.fit(flag, report, advance)
    write_metrics(job.folder / "metrics.csv", history)


def _epoch_line(metrics: dict[str, float], n_epochs: int) -> str:
    return (
        f"epoch {metrics['epoch']:.0f}/{n_epochs}  log-likelihood {metrics['log_likelihood']:.2f} an image"
        f"  {metrics['shells']:.0f} shells  {metrics['images_per_second']:.0f} images/s"
    )


@contextmanager
def _bar(name: str, total: int, flag: Interrupts | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and remaining time; yields the function that moves it on.

    With a flag, that function is also where the work stops on an interrupt.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
    )
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(name, total=total, completed=done)

        def advance(step: int) -> None:
            bar.advance(task, step)
            if flag is not None:
                flag.raise_if_requested()

        yield advance
