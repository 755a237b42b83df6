"""How long the default settings of `kinesphere segments` take to 95 % of the accuracy that they end
with.

    OMP_NUM_THREADS=2 python benchmarks/speed/time_to_accuracy.py ../shared/data/adk \
        ../shared/data/igg --threads 2

After every epoch the latents of all images are inferred, and their structures compared with the
truth. Clocks run from reading the particles on and stand still during the comparison; an epoch's
time includes one inference, which a user who stopped there would have to wait for. Accuracy is the
part of the motion that is recovered, 1 − RMSD / RMSD of the model that stands still (medians over
images); r is the correlation of positions along the main motion. Writes
results/time_to_accuracy.csv, a row an epoch, and .md, a row a data set.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro

from kinesphere.evaluation.metrics import MainMotion, pearson, rmsd
from kinesphere.evaluation.truth import Truth, read_truth
from kinesphere.methods.segments import Segments, SegmentsOptions
from kinesphere.observations.prepare import prepare_images
from kinesphere.runs.job import Job, make_trainers, prepare_job
from kinesphere.runs.run_folder import ALL_IMAGES
from kinesphere.runtime import seed_everything, set_threads
from kinesphere.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, markdown, model_of, write_csv

_WANTED = 0.95
_STRUCTURES_AT_ONCE = 500
COLUMNS = (
    "data",
    "images",
    "final_r",
    "final_rmsd",
    "still_rmsd",
    "epochs_to_95",
    "cpu_seconds_to_95",
    "wall_seconds_to_95",
    "cpu_seconds",
    "wall_seconds",
)


@dataclass(frozen=True)
class Options:
    """What to run."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with particles.star, model.pdb or model.cif, consensus.mrc and truth.npz."""
    threads: int = 1
    """CPU threads."""
    name: str = "time_to_accuracy"
    """Name of the tables."""


@dataclass
class Stopwatch:
    """CPU and wall time since it was made, but for what was left out."""

    start: tuple[float, float] = field(
        default_factory=lambda: (time.process_time(), time.perf_counter())
    )

    def read(self) -> tuple[float, float]:
        """Seconds of all threads, and on the wall."""
        return time.process_time() - self.start[0], time.perf_counter() - self.start[1]

    def set_back_to(self, reading: tuple[float, float]) -> None:
        """Forget what has passed since a reading."""
        now = (time.process_time(), time.perf_counter())
        self.start = (now[0] - reading[0], now[1] - reading[1])


def main(options: Options) -> None:
    """Train on every set, and write the tables."""
    set_threads(options.threads)
    epochs: list[Row] = []
    for data in options.data:
        epochs += train(data)
        write_csv(RESULTS / f"{options.name}.csv", epochs)
    names = dict.fromkeys(row["data"] for row in epochs)
    summary = [summarise([row for row in epochs if row["data"] == name]) for name in names]
    table = (
        f"`kinesphere segments` with default settings, threads: {options.threads}. Time to "
        f"{_WANTED:.0%} of the final "
        "accuracy includes reading the images and inferring all latents "
        f"once.\n\n{markdown(summary, COLUMNS)}"
    )
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def train(data: Path) -> list[Row]:
    """Train on one set with the defaults; a row an epoch."""
    watch, rows = Stopwatch(), []
    options = SegmentsOptions(
        particles=data / "particles.star", model=model_of(data), map=data / "consensus.mrc"
    )
    seed_everything(options.training.seed)
    with tempfile.TemporaryDirectory() as scratch:
        job = prepare_job(Segments(options), Path(scratch))
        observations = prepare_images(job.particles, job.options.training.images, job.folder)
        trainer = make_trainers(job, observations, torch.device("cpu"))[ALL_IMAGES]
        trainer.checkpoints = None
        reading = watch.read()
        score = make_score(job, trainer, read_truth(data / "truth.npz"))
        watch.set_back_to(reading)

        def report(metrics: dict[str, float]) -> None:
            trained = watch.read()
            mean = trainer.infer().mean
            cpu, wall = watch.read()
            rows.append(
                {"data": data.name, "images": len(observations), "epoch": int(metrics["epoch"])}
            )
            rows[-1] |= {
                "shells": int(metrics["shells"]),
                "cpu_seconds": cpu,
                "wall_seconds": wall,
                **score(mean),
            }
            watch.set_back_to(trained)

        trainer.fit(report=report)
    return rows


def make_score(job: Job, trainer: Trainer, truth: Truth) -> Callable[[torch.Tensor], Row]:
    """Make the function that compares the structures at latent positions with the truth."""
    shared, residues = truth.match(job.molecule.model)
    motion = MainMotion.of_states(shared.ca_states)
    wanted = motion.project(shared.ca_states)[shared.state]
    nominal = job.molecule.model.centres_angstrom[residues]
    still = float(np.median(rmsd(shared.ca_states, nominal)[shared.state]))

    @torch.no_grad()
    def score(latents: torch.Tensor) -> Row:
        off, along = [], []
        for rows in torch.arange(len(latents)).split(_STRUCTURES_AT_ONCE):
            # the reference points are the residues' centres
            found = (
                trainer.motion(latents[rows]).double().numpy()[:, residues]
                + job.molecule.centre_angstrom
            )
            off.append(rmsd(found, shared.ca_states[shared.state[rows]]))
            along.append(motion.project(found))
        off_median = float(np.median(np.concatenate(off)))
        r = pearson(np.concatenate(along), wanted)
        return {
            "rmsd": off_median,
            "still_rmsd": still,
            "recovered": 1.0 - off_median / still,
            "r": r,
        }

    return score


def summarise(epochs: list[Row]) -> Row:
    """Find the first epoch from which on accuracy and correlation are at least 95 % of what they
    end as.
    """
    last = epochs[-1]

    def is_there(row: Row) -> bool:
        return all(row[key] >= _WANTED * last[key] for key in ("recovered", "r"))

    first = next(row for number, row in enumerate(epochs) if all(map(is_there, epochs[number:])))
    return {
        **{
            key: last[key]
            for key in ("data", "images", "still_rmsd", "cpu_seconds", "wall_seconds")
        },
        "final_r": last["r"],
        "final_rmsd": last["rmsd"],
        "epochs_to_95": f"{first['epoch']} of {last['epoch']}",
        "cpu_seconds_to_95": first["cpu_seconds"],
        "wall_seconds_to_95": first["wall_seconds"],
    }


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
