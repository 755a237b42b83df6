"""Backproject with kinesphere for a number of passes on one CPU thread: the other half of
run_dynamight.py's task.

    OMP_NUM_THREADS=1 python benchmarks/peers/run_kinesphere.py RUN --images 512 --passes 2

RUN is a finished field run. Reading and preparing the images, the motion of each, the pull along it
and the insertion of the slices of CTF² are all part of a pass, as they are of `kinesphere
reconstruct`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

import kinesphere
from kinesphere.reconstruction.backprojection import HalfSums, Sweep, accumulate
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem


@dataclass(frozen=True)
class Options:
    """What to backproject, and how often."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished field run."""
    images: int = 512
    """Images, from the first on."""
    passes: int = 1
    """Times that all of them are backprojected."""


def main(options: Options) -> None:
    """Backproject as `kinesphere reconstruct` does."""
    torch.set_num_threads(1)
    problem = pose_problem(kinesphere.load(options.run), ReconstructionSettings())
    rows = np.arange(min(options.images, len(problem.particles)))
    images = WeightedImages(
        problem.particles, problem.loader, noise_power(problem.particles, problem.loader, rows, 64)
    )
    sweep = Sweep(images, rows, DeformedProjector(problem.support), problem.motion)
    for _ in range(options.passes):
        accumulate(sweep, HalfSums.empty(problem.support))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
