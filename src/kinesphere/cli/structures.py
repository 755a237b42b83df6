"""Write the structure of each particle image as arrays (.npz) or models (.pdb, .cif)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from kinesphere import load
from kinesphere.runtime import console

if TYPE_CHECKING:
    from kinesphere.analysis.errors import ErrorMeter
    from kinesphere.analysis.structures import Written
    from kinesphere.runs.run import Run


@dataclass(frozen=True)
class StructuresOptions:
    """Options of `kinesphere structures`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    out: Path
    """File to write: .npz for arrays, .pdb or .cif for a multi-model file."""
    model: Path | None = None
    """Another model to be carried along, in the frame of the run's model or map. With segments it
    has to be in the state of the run's own model; a field finds the state it shows."""
    every: int | None = None
    """Only each K-th particle."""
    images: str | None = None
    """Only these rows of the particle file, counted from 0, as in 3,7,12."""
    errors: bool = False
    """Also how well it is known how far each residue (or pseudo-atom) moved in each image:
    docs/errors.md. .npz gets `displacement` and `displacement_error`: standard errors in Å along
    each residue's main direction. .pdb and .cif get these errors, in Å, in place of the B factors:
    large is uncertain."""


def run(options: StructuresOptions) -> None:
    """Write the structures in the frame of the input model."""
    from kinesphere.analysis.errors import ErrorMeter, require_latent_errors
    from kinesphere.analysis.structures import choose_images, write_structures
    from kinesphere.io.structure import read_model

    finished: Run = load(options.run)
    rows = choose_images(finished, options.every, options.images)
    if options.errors:
        require_latent_errors(finished)
    if options.model is not None:
        finished = finished.with_model(read_model(options.model))
        for line in finished.carried_model.report():
            console.print(line, highlight=False)
    meter = ErrorMeter.of(finished) if options.errors else None
    written = write_structures(options.out, finished, rows, meter)
    console.print(
        f"Wrote {written.n_structures} structures of {written.n_atoms} atoms to {options.out}.",
        highlight=False,
    )
    if meter is not None:
        for line in describe_errors(options.out, meter, written):
            console.print(line, highlight=False)


def describe_errors(out: Path, meter: ErrorMeter, written: Written) -> list[str]:
    """Say how large the errors are, where they stand, and what they lack."""
    place = "displacement_error" if out.suffix.lower() == ".npz" else "the B-factor column"
    size = f"{written.error_angstrom:.2f} Å (RMS over residues and images)"
    lines = [f"Standard errors along each residue's main direction: {size}, in {place}."]
    if not meter.training.any():
        lines.append(
            "This run did not measure what training leaves uncertain: that is not in it "
            "(docs/errors.md)."
        )
    return lines
