"""Simulate particles of a molecule that opens and closes, recover each one's conformation, and
compare with the truth.

    python examples/01_recover_a_motion.py example --images 1000

The same as `kinesphere simulate`, `segments` and `evaluate`, called from Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import kinesphere
from kinesphere.evaluation.options import ScoreSettings
from kinesphere.evaluation.scores import score
from kinesphere.evaluation.truth import read_truth
from kinesphere.methods.segments import (
    Segments,
    SegmentsOptions,
    SegmentsScheduleConfig,
    SegmentsTrainingConfig,
)
from kinesphere.runs.job import run_job
from kinesphere.simulate.dataset import write_dataset
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.recipe import Recipe


@dataclass(frozen=True)
class Options:
    """How much to make."""

    folder: tyro.conf.Positional[Path]
    """Gets the particles in `data` and the run in `run`."""
    images: int = 1000
    """Particles to simulate."""
    box: int = 64
    """Their box, in pixels of 96 Å / box."""
    epochs: int = 8
    """Passes over them."""


def main(options: Options) -> None:
    """Simulate, recover, compare."""
    data, run_folder = options.folder / "data", options.folder / "run"
    recipe = Recipe(n=options.images, box=options.box, pixel_size=96 / options.box)
    write_dataset(
        data, adenylate_kinase(n_states=21), recipe, "Adenylate kinase, PDB 1AKE to 4AKE."
    )

    chosen = SegmentsOptions(
        particles=data / "particles.star",
        model=data / "model.cif",
        map=data / "consensus.mrc",
        training=SegmentsTrainingConfig(
            schedule=SegmentsScheduleConfig(epochs=options.epochs), threads=1
        ),
    )
    run_job(Segments(chosen), run_folder)

    run = kinesphere.load(run_folder)
    segment = run.memberships.argmax(axis=1)
    print(
        f"{len(run.latents.mean)} conformations, {len(np.unique(segment))} segments, "
        f"{run.model.n_atoms} atoms"
    )
    scores = score(run, read_truth(data / "truth.npz"), ScoreSettings(ideal=False))
    print(
        f"Cα RMSD {scores['ca_rmsd_median']:.2f} Å; {scores['still_rmsd_median']:.2f} Å if "
        "nothing moved"
    )
    print(f"correlation along the true motion {scores['r_main_motion']:.3f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
