"""Ask a finished run a question of your own: how far apart are two parts of the molecule, particle
by particle?

    python examples/02_look_into_a_run.py example/run --first A:122-159 --second A:30-59

Prints the distribution, and writes the particles at its two ends as structures and as a star file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

import kinesphere
from kinesphere.io.structure import write_model
from kinesphere.runs.run import Run


@dataclass(frozen=True)
class Options:
    """Which parts of which run."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    first: str
    """Residues as CHAIN:FIRST-LAST."""
    second: str
    """The other part."""
    percentile: float = 5.0
    """How far out the two ends are."""


def main(options: Options) -> None:
    """Measure, print, write."""
    run = kinesphere.load(options.run)
    distance = distances(run, options.first, options.second)
    low, high = np.percentile(distance, [options.percentile, 100 - options.percentile])
    print(
        f"{options.first} to {options.second}: median {np.median(distance):.1f} Å, from "
        f"{low:.1f} to {high:.1f} Å"
    )

    ends = np.array([np.abs(distance - end).argmin() for end in (low, high)])
    write_model(options.run / "two_ends.cif", run.model, run.structures(ends))
    near = np.flatnonzero(distance <= low)
    run.particles[near].write_star(options.run / "near.star")
    print(
        f"{options.run / 'two_ends.cif'}: particles {ends[0]} and {ends[1]}; near.star: "
        f"{len(near)} particles"
    )


def distances(run: Run, first: str, second: str) -> NDArray[np.float64]:
    """Distance between the centroids of two parts in every particle, (n,) in Å, a thousand
    particles at a time.
    """
    one, other = residues_of(run, first), residues_of(run, second)
    found = []
    for images in np.array_split(run.latents.index, len(run.latents.index) // 1000 + 1):
        centres = run.residues(images)
        found.append(np.linalg.norm(centres[:, one].mean(1) - centres[:, other].mean(1), axis=1))
    return np.concatenate(found)


def residues_of(run: Run, text: str) -> NDArray[np.bool_]:
    """Turn CHAIN:FIRST-LAST into a mask over the residues of the model."""
    chain, _, numbers = text.partition(":")
    first, _, last = numbers.partition("-")
    number = run.model.residue_number
    return (run.model.chain == chain) & (number >= int(first)) & (number <= int(last))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
