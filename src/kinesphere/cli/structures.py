"""Write the structure of each particle image as arrays (.npz) or models (.pdb, .cif)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from kinesphere import load
from kinesphere.analysis.structures import choose_images, write_structures
from kinesphere.io.structure import read_model
from kinesphere.runtime import console

if TYPE_CHECKING:
    from kinesphere.inference.run import Run


@dataclass(frozen=True)
class StructuresOptions:
    """Options of `kinesphere structures`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    out: Path
    """File to write: .npz for arrays, .pdb or .cif for a multi-model file."""
    model: Path | None = None
    """Another model to be carried along, in the frame of the run's model or map. With segments it has to be in the
    state of the run's own model; a field finds the state it shows."""
    every: int | None = None
    """Only each K-th particle."""
    images: str | None = None
    """Only these rows of the particle file, counted from 0, as in 3,7,12."""


def run(options: StructuresOptions) -> None:
    """Write the structures in the frame of the input model."""
    finished: Run = load(options.run)
    rows = choose_images(finished, options.every, options.images)
    if options.model is not None:
        finished = finished.carrying(read_model(options.model))
        for line in finished.passenger.report():
            console.print(line, highlight=False)
    n_structures, n_atoms = write_structures(options.out, finished, rows)
    console.print(f"Wrote {n_structures} structures of {n_atoms} atoms to {options.out}.", highlight=False)
