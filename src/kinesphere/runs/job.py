"""A training job from input files to a finished run folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kinesphere import kernels
from kinesphere.errors import InputError
from kinesphere.inference.latents import Posterior
from kinesphere.io.checkpoint import has_checkpoint
from kinesphere.methods.base import Method, MethodOptions
from kinesphere.methods.molecule import Molecule
from kinesphere.motion.reference import Reference
from kinesphere.observations.observations import Observations
from kinesphere.observations.prepare import prepare_images
from kinesphere.particles import ParticleSet, assign_halves
from kinesphere.progress_bar import progress_bar
from kinesphere.ranks import ALONE, Ranks, Team
from kinesphere.runs.checks import (
    compare_poses,
    require_best_pose,
    require_contrast,
    require_match,
)
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.half_errors import DISPLACEMENT_ERRORS_FILE, compare_half_models
from kinesphere.runs.halves import ALL_IMAGES, images_of_model
from kinesphere.runs.latent_dimension import LatentDimension, save_latent_dimensions
from kinesphere.runs.run_folder import (
    checkpoint_folder,
    describe_device,
    is_same_run,
    write_metrics,
    write_particles,
    write_run_file,
)
from kinesphere.runtime import (
    Interrupts,
    claimed,
    console,
    interrupts,
    seed_everything,
    set_threads,
)
from kinesphere.training.checkpoints import restore_state, state_of
from kinesphere.training.options import default_batch_size
from kinesphere.training.schedule import Schedule, SettlingSchedule
from kinesphere.training.trainer import Trainer

_FEWEST_OF_A_HALF = 2
_VALIDATION_STREAM = (
    1  # its own random stream: the draw of half sets stays what it is without a validation subset
)


@dataclass(frozen=True)
class Job:
    """What a job works on.

    Parameters
    ----------
    folder
        The run folder.
    method
        What the user asked for, numbers filled in.
    particles
        As read; with half sets where two models are trained.
    molecule
        What is moved.
    is_validation
        (n,) the particles that train no motion.
    """

    folder: Path
    method: Method[Any]
    particles: ParticleSet
    molecule: Molecule
    is_validation: Bool[np.ndarray, " n"]

    @property
    def options(self) -> MethodOptions:
        """What the user asked for, numbers filled in."""
        return self.method.options

    @property
    def reference(self) -> Reference:
        """The molecule as motion and renderer see it."""
        return self.molecule.reference

    @property
    def frame(self) -> dict[str, list[float]]:
        """Where zero is, as run.yaml records it."""
        return {"centre_angstrom": self.molecule.centre_angstrom.tolist()}

    def rows(self, half: int) -> Int[np.ndarray, " k"]:
        """Particles of one half set, or all of them."""
        return images_of_model(half, self.particles.half)

    def training_rows(self, half: int) -> Int[np.ndarray, " k"]:
        """Particles that train the model of a half set."""
        rows = self.rows(half)
        return rows[~self.is_validation[rows]]


def run_job(method: Method[Any], folder: Path, ranks: Ranks = ALONE) -> None:
    """Train a method's model on the particles, infer every image's conformation, fill the run
    folder.

    The same call on an unfinished folder continues it; on a finished one it changes nothing. Inputs
    that are refused leave no folder behind.

    Parameters
    ----------
    method
        The method, with what the user chose.
    folder
        The run folder.
    ranks
        Who works on it; the first alone writes. Where there are several, and two half sets, each
        half set has its own.
    """
    method.options.require_sensible()
    training = method.options.training
    set_threads(training.threads)
    seed_everything(training.seed)
    device = ranks.choose_device(training.device)
    with claimed(folder), interrupts() as flag:
        job = prepare_job(method, folder, ranks)
        _require_enough(job, ranks)
        known, is_finished = ranks.from_first(lambda: _what_is_there(job))
        if is_finished:
            console.print(f"{folder} holds this run already, finished.", highlight=False)
            return
        observations = _prepare_images(job, flag, device, ranks)
        if device.type == "cpu":
            kernels.warm_up(console.print)  # now that what the user gave has been read
        trainers = make_trainers(job, observations, device, ranks)
        ranks.from_first(lambda: _begin(job, observations, trainers, is_new=not known))
        with console.logging_to(folder / "log.txt") if ranks.is_first else nullcontext():
            _announce(job, observations, device, ranks)
            train(job, trainers, observations, flag, ranks)


def _announce(job: Job, observations: Observations, device: torch.device, ranks: Ranks) -> None:
    """Say what is about to be trained, on what."""
    if (warning := job.method.warning()) is not None:
        console.print(warning, style="yellow")
    n_points = len(job.reference.points)
    where = describe_device(device)
    if ranks.size > 1:
        where = f"{ranks.size} × {where}"
    console.print(
        f"{len(job.particles)} particles, {n_points} {job.method.points_name}, on {where}"
    )
    console.print(f"Prepared images: {observations.storage}", highlight=False)


def _require_enough(job: Job, ranks: Ranks) -> None:
    """Refuse more ranks than have an image or two of each model."""
    fewest = len(job.particles) // (2 if job.options.training.halves else 1)
    if ranks.size > 1 and 2 * ranks.size > fewest:
        problem = f"{len(job.particles)} particles are too few for {ranks.size} ranks"
        raise InputError(job.options.particles, problem, "Start fewer")


def _what_is_there(job: Job) -> tuple[bool, bool]:
    """Whether the folder holds this run, and whether it is finished."""
    options = job.options
    known = is_same_run(job.folder, job.method.name, options, options.input_files, job.frame)
    return known, known and (job.folder / "latents.npz").exists()


def _begin(
    job: Job, observations: Observations, trainers: Mapping[int, Trainer], *, is_new: bool
) -> None:
    """Check that images and model agree, and write what a run folder starts with."""
    if is_new:
        require_agreement(job, observations, trainers)
        write_run_file(
            job.folder,
            job.method.name,
            job.options,
            job.options.input_files,
            job.frame,
            **job.method.provenance(),
        )
    job.molecule.save(job.folder)


def prepare_job(method: Method[Any], folder: Path, ranks: Ranks = ALONE) -> Job:
    """Read the inputs, and check all that can be told without the images.

    Raises
    ------
    InputError
        For anything about the inputs that would make the run fail or mean nothing.
    """
    options = method.options
    particles = ParticleSet.read(options.particles, passthrough=options.passthrough)
    particles.require_poses()
    molecule = ranks.from_first(lambda: method.read(particles))
    training = options.training
    if training.halves:
        particles = assign_halves(particles, training.seed)
        require_both_halves(particles, options.particles)
    n_models = 2 if training.halves else 1
    resolved = method.resolved(len(molecule.reference.points), len(particles) // n_models)
    is_validation = choose_validation(particles, training.validation_fraction, training.seed)
    return Job(folder, resolved, particles, molecule, is_validation)


def require_both_halves(particles: ParticleSet, source: Path) -> None:
    """Refuse particles that are all, or nearly all, in one half set.

    Raises
    ------
    InputError
        Naming the half that is empty.
    """
    for half in (1, 2):
        count = int((particles.half == half).sum())
        if count < _FEWEST_OF_A_HALF:
            problem = f"half set {half} has {count} of {len(particles)} particles"
            remedy = (
                "Give particles of both half sets, or remove rlnRandomSubset to have them drawn"
            )
            raise InputError(source, problem, remedy)


def choose_validation(particles: ParticleSet, fraction: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Draw the validation subset: a fraction of each half set, entries that share an image
    together.
    """
    chosen = np.zeros(len(particles), dtype=bool)
    if fraction == 0:
        return chosen
    keys = np.stack([particles.image_file, particles.image_slot], axis=1)
    _, image = np.unique(keys, axis=0, return_inverse=True)
    image = image.ravel()
    draw = np.random.default_rng([seed, _VALIDATION_STREAM])
    for half in (1, 2):
        images = np.unique(image[particles.half == half])
        chosen |= np.isin(image, draw.permutation(images)[: round(fraction * len(images))])
    return chosen


def require_agreement(
    job: Job, observations: Observations, trainers: Mapping[int, Trainer]
) -> None:
    """Refuse images that show something else than the model, or show it elsewhere.

    Raises
    ------
    InputError
        Saying what the images show instead.
    """
    for trainer in trainers.values():
        require_contrast(trainer.statistics_at_rest, job.options.particles)
    if not job.options.ignore_misfit:
        trainer = next(iter(trainers.values()))
        at_rest = trainer.decoder.at_rest.detach()
        as_it_lies, best = compare_poses(trainer.forward, at_rest, observations)
        extent = observations.band.field_of_view_angstrom
        require_best_pose(as_it_lies, best, extent, job.method.source)
    for trainer in trainers.values():
        require_match(trainer.statistics_at_rest, job.options.particles)


def train(
    job: Job,
    trainers: Mapping[int, Trainer],
    observations: Observations,
    flag: Interrupts,
    ranks: Ranks = ALONE,
) -> None:
    """Train the model of all images, or those of the half sets, and write what was found.

    Where there are ranks enough, each model is trained by a team of its own, all at the same time;
    then every rank is given all of them.
    """
    teams = dict(zip(trainers, ranks.split(len(trainers)), strict=True))
    found: dict[int, Posterior | None] = dict.fromkeys(trainers)
    history: dict[int, list[dict[str, float]]] = {}
    for half, trainer in trainers.items():
        if (team := teams[half].ranks) is not None:
            trainer.ranks = team
            _fit(job, trainer, half, history, flag)
            found[half] = _infer(job, half, trainer, observations, flag)
    n = len(job.particles)
    posteriors: dict[int, Posterior] = {}
    for half, trainer in trainers.items():
        posteriors[half] = _hand_out(trainer, found[half], teams[half], ranks)
        history[half] = trainer.progress.history
    _report_dimensions(job, trainers, ranks)
    d = _agree_on_dimension(list(trainers.values()))
    mean = np.zeros((n, d), np.float32)
    covariance = np.tile(np.eye(d, dtype=np.float32), (n, 1, 1))
    for half, posterior in posteriors.items():
        rows = job.rows(half)
        known = posterior.mean.shape[1]
        mean[rows, :known] = posterior.mean.numpy()
        covariance[rows, :known, :known] = posterior.covariance.numpy()
    if job.is_validation.any():
        _compare_halves(job, trainers, observations)
    if ranks.is_first:
        write_metrics(job.folder / "metrics.csv", history)
        label = job.particles.half if job.options.training.halves else np.zeros(n, np.int64)
        latents = LatentTable(np.arange(n), mean, covariance, label)
        write_particles(job.folder / "particles.star", job.particles, latents)
        latents.save(job.folder / "latents.npz")
        console.print(f"Wrote one conformation per particle to {job.folder}")


def _report_dimensions(job: Job, trainers: Mapping[int, Trainer], ranks: Ranks) -> None:
    """Say how many latent dimensions the images asked for, where they were asked."""
    found = {
        half: LatentDimension(trainer.progress.dimension_gains)
        for half, trainer in trainers.items()
        if trainer.progress.dimension_gains
    }
    if ranks.is_first and found:
        save_latent_dimensions(job.folder, found)
        for half, dimension in found.items():
            name = "" if half == ALL_IMAGES else f"Half {half}: "
            console.print(f"{name}{dimension.summary()}", highlight=False)


def _agree_on_dimension(trainers: list[Trainer]) -> int:
    """Give all models as many latent dimensions as the one that has most: in those, nothing moves
    in the others.
    """
    latent_dim = max(trainer.latents.latent_dim for trainer in trainers)
    for trainer in trainers:
        if trainer.latents.latent_dim < latent_dim:
            trainer.set_latent_dim(latent_dim)
            trainer.save()
    return latent_dim


def _infer(
    job: Job, half: int, trainer: Trainer, observations: Observations, flag: Interrupts
) -> Posterior:
    with progress_bar("Inferring conformations", len(job.rows(half)), flag) as advance:
        return trainer.infer(_all_of(job, half, trainer, observations), advance)


def _hand_out(trainer: Trainer, found: Posterior | None, team: Team, ranks: Ranks) -> Posterior:
    """Give all ranks what a team has learnt and found; from then on the trainer belongs to all of
    them.
    """
    trainer.ranks = ranks
    if team.ranks is not ranks:
        state, found = ranks.broadcast((state_of(trainer), found), team.first)
        restore_state(trainer, state, trainer.checkpoints or Path())
    if found is None:
        raise AssertionError("every model has a team")
    return found


def _compare_halves(job: Job, trainers: Mapping[int, Trainer], observations: Observations) -> None:
    rows = np.flatnonzero(job.is_validation)
    errors = compare_half_models(trainers[1], trainers[2], observations.subset(_index(rows)), rows)
    if trainers[1].ranks.is_first:
        errors.save(job.folder / DISPLACEMENT_ERRORS_FILE)
    console.print(errors.summary())


def make_trainers(
    job: Job, observations: Observations, device: torch.device, ranks: Ranks = ALONE
) -> dict[int, Trainer]:
    """Make the trainer of all images, or one for each half set, by the number of the half."""
    if not job.options.training.halves:
        return {ALL_IMAGES: make_trainer(job, observations, ALL_IMAGES, device, ranks=ranks)}
    bystanders = (
        observations.subset(_index(np.flatnonzero(job.is_validation)))
        if job.is_validation.any()
        else None
    )
    subsets = {half: observations.subset(_index(job.training_rows(half))) for half in (1, 2)}
    return {
        half: make_trainer(job, subset, half, device, bystanders, ranks)
        for half, subset in subsets.items()
    }


def _all_of(job: Job, half: int, trainer: Trainer, observations: Observations) -> Observations:
    """Return the images of a half set, those that trained nothing included."""
    rows = job.rows(half)
    return (
        trainer.observations
        if len(rows) == len(trainer.observations)
        else observations.subset(_index(rows))
    )


def _index(rows: Int[np.ndarray, " k"]) -> Tensor:
    return torch.from_numpy(rows)


def _prepare_images(job: Job, flag: Interrupts, device: torch.device, ranks: Ranks) -> Observations:
    with progress_bar("Preparing images", len(job.particles), flag) as advance:
        return prepare_images(
            job.particles, job.options.training.images, job.folder, advance, device, ranks
        )


def make_trainer(
    job: Job,
    observations: Observations,
    half: int,
    device: torch.device,
    bystanders: Observations | None = None,
    ranks: Ranks = ALONE,
) -> Trainer:
    """Make the trainer of one set of images; random draws depend on the seed and the half only."""
    training = job.options.training
    seed = training.seed + half
    torch.manual_seed(seed)
    batch_size = training.batch_size or default_batch_size(len(observations))
    model = job.method.make_model(job.reference, observations.band)
    kind = SettlingSchedule if model.latents.keeps_posteriors else Schedule
    schedule = kind(training.schedule, len(observations), observations.band.n_shells, batch_size)
    return Trainer(
        model,
        observations,
        job.method.make_forward(job.reference, observations.band, device),
        schedule,
        seed=seed,
        device=device,
        checkpoints=checkpoint_folder(job.folder, half),
        bystanders=bystanders,
        chooses_dimension=training.latents.chooses_dimension,
        ranks=ranks,
    )


def _fit(
    job: Job,
    trainer: Trainer,
    half: int,
    history: dict[int, list[dict[str, float]]],
    flag: Interrupts,
) -> None:
    folder = trainer.checkpoints
    ranks = trainer.ranks
    if folder is not None and ranks.from_first(lambda: has_checkpoint(folder)):
        trainer.resume()
        console.print(
            f"Continuing at epoch {trainer.progress.epoch + 1}, step {trainer.progress.step}"
        )
    history[half] = trainer.progress.history

    def report(metrics: dict[str, float]) -> None:
        console.print(_epoch_line(metrics, trainer.schedule.epochs))
        if ranks.is_first_of_all:
            write_metrics(job.folder / "metrics.csv", history)

    done = (
        trainer.progress.epoch * len(trainer.observations)
        + trainer.progress.batch * trainer.batch_size
    )
    name = "Training" if half == ALL_IMAGES else f"Training half {half}"
    total = trainer.schedule.epochs * len(trainer.observations)
    with progress_bar(name, total, done=done) as advance:
        trainer.fit(flag, report, advance)


def _epoch_line(metrics: dict[str, float], n_epochs: int) -> str:
    return (
        f"epoch {metrics['epoch']:.0f}/{n_epochs}  log-likelihood "
        f"{metrics['log_likelihood']:.2f} an image"
        f"  {metrics['shells']:.0f} shells  {metrics['images_per_second']:.0f} images/s"
    )
