"""One structure for each particle image, written as arrays or as models."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.analysis.ensemble import chunks
from kinesphere.analysis.errors import ErrorMeter
from kinesphere.errors import InputError
from kinesphere.io.structure import write_model
from kinesphere.runs.finished_run import FinishedRun
from kinesphere.runtime import atomic_write

MODEL_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
MAXIMUM_TEXT_ATOMS = 20_000_000
ERROR_TITLE = "B factors are standard errors of displacements in angstrom"
# Zip entries carry a time; a constant one makes equal results equal files.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def choose_images(run: FinishedRun, every: int | None, images: str | None) -> Int[np.ndarray, " m"]:
    """Turn the user's choice of particles into rows of the latents.

    Parameters
    ----------
    run
        Whose particles are meant.
    every
        Each K-th particle, from the first.
    images
        Rows of the particle file from 0, separated by commas.

    Returns
    -------
    ndarray
        (m,) rows; all where neither is given.

    Raises
    ------
    InputError
        Where both are given, or a row is not a number or not in the run.
    """
    index = np.asarray(run.latents.index)
    if every is not None and images is not None:
        raise InputError("--every and --images", "both choose particles", "Give one of them")
    if every is not None:
        if every < 1:
            raise InputError("--every", f"{every} is not a step", "Use 1 or more")
        return np.arange(0, len(index), every)
    if images is None:
        return np.arange(len(index))
    row_of = {int(particle): row for row, particle in enumerate(index)}
    return np.array([row_of[particle] for particle in _parse_images(images, row_of, run.path)])


def _parse_images(images: str, known: dict[int, int], source: Path) -> list[int]:
    """Read `3,7,12` and refuse what the run does not hold."""
    particles = []
    for part in images.split(","):
        if not part.strip().isdecimal():
            raise InputError(
                "--images",
                f"{part.strip()!r} is not a particle number",
                "Give rows from 0, as in 3,7,12",
            )
        particle = int(part)
        if particle not in known:
            raise InputError(
                "--images",
                f"particle {particle} is not in {source}",
                f"It holds {len(known)} particles, from 0",
            )
        particles.append(particle)
    return particles


@dataclass(frozen=True)
class Written:
    """What a file of structures holds.

    Parameters
    ----------
    n_structures, n_atoms
        Structures, and atoms in each.
    error_angstrom
        RMS standard error of a residue's displacement; none where errors were not asked for.
    """

    n_structures: int
    n_atoms: int
    error_angstrom: float | None


def write_structures(
    path: Path, run: FinishedRun, rows: Int[np.ndarray, " m"], errors: ErrorMeter | None = None
) -> Written:
    """Write the structures of particles in the frame of the input model.

    Parameters
    ----------
    path
        `.npz` (keys `index`, `positions`, `atom_name`, `residue`, `chain`, `residue_name`,
        `insertion_code`), or a multi-model PDB or mmCIF file (also gzipped).
    run
        Decodes the latents.
    rows
        (m,) particles as rows of the latents.
    errors
        Of the same run, to write errors too: docs/errors.md lists the further keys of `.npz`; the
        other formats have them in the B-factor column, in Å.

    Returns
    -------
    Written
        How much, and how well it is known.

    Raises
    ------
    InputError
        Where the format is unknown, or the file would not be of use for its size.
    """
    suffix = Path(path.stem if path.suffix == ".gz" else path).suffix.lower()
    if suffix == ".npz":
        error = _write_npz(path, run, rows, errors)
    elif suffix in MODEL_SUFFIXES:
        if len(rows) * run.model.n_atoms > MAXIMUM_TEXT_ATOMS:
            problem = (
                f"{len(rows)} models of {run.model.n_atoms} atoms are too many for a text file"
            )
            raise InputError(path, problem, "Choose fewer with --every or --images, or write .npz")
        error = _write_models(path, run, rows, errors)
    else:
        raise InputError(
            path, f"'{path.suffix}' is not a format for structures", "Use .npz, .pdb or .cif"
        )
    return Written(len(rows), run.model.n_atoms, error)


def _write_models(
    path: Path, run: FinishedRun, rows: Int[np.ndarray, " m"], errors: ErrorMeter | None
) -> float | None:
    """Write a model for each particle; give the RMS error where there are errors."""
    positions = np.concatenate(list(_positions(run, rows))).astype(np.float64)
    if errors is None:
        write_model(path, run.model, positions)
        return None
    total = errors.measure(rows).total
    write_model(path, run.model, positions, total[:, run.model.residue_index], ERROR_TITLE)
    return float(np.sqrt(np.mean(total**2)))


def _write_npz(
    path: Path, run: FinishedRun, rows: Int[np.ndarray, " m"], errors: ErrorMeter | None
) -> float | None:
    """Write an uncompressed npz whose large arrays are streamed; give the RMS error where there are
    errors.
    """
    model = run.model
    residue = model.residue_index
    small = {
        "index": np.asarray(run.latents.index)[rows],
        "atom_name": model.atom_name,
        "residue": model.residue_number[residue],
        "chain": model.chain[residue],
        "residue_name": model.residue_name[residue],
        "insertion_code": model.insertion_code[residue],
    }
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in small.items():
            _store(archive, name, array)
        _stream(archive, "positions", (len(rows), model.n_atoms, 3), _positions(run, rows))
        return None if errors is None else _add_errors(archive, rows, errors)


def _add_errors(archive: zipfile.ZipFile, rows: Int[np.ndarray, " m"], errors: ErrorMeter) -> float:
    """Write displacements of residues and their errors; give the RMS error.

    An archive takes one array after the other. So images are decoded anew for each, rather than
    kept.
    """
    model = errors.run.model
    small = {
        "centre_atom": model.centre_atom,
        "residue_index": model.residue_index,
        "direction": errors.first.direction,
        "training_error": errors.training,
        "model_error": errors.model,
    }
    for name, array in small.items():
        _store(archive, name, array)
    squares = 0.0

    def totals() -> Iterator[Float[np.ndarray, "c r"]]:
        nonlocal squares
        for chunk in chunks(rows, model.n_residues):
            total = errors.measure(chunk).total
            squares += float(np.sum(total**2))
            yield total

    shape = (len(rows), model.n_residues)
    moved = (errors.displacements(chunk) for chunk in chunks(rows, model.n_residues))
    _stream(archive, "displacement", (*shape, 3), moved)
    _stream(archive, "displacement_error", shape, totals())
    return math.sqrt(squares / max(math.prod(shape), 1))


def _positions(
    run: FinishedRun, rows: Int[np.ndarray, " m"]
) -> Iterator[Float[np.ndarray, "c atoms 3"]]:
    """Give the structures a chunk at a time, so that memory does not grow with their number."""
    for chunk in chunks(rows, run.model.n_atoms):
        yield np.asarray(run.structures(chunk), np.float32)


def _store(archive: zipfile.ZipFile, name: str, array: Shaped[np.ndarray, "..."]) -> None:
    """Write a small array."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy", ZIP_TIME), "w") as entry:
        np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)


def _stream(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    parts: Iterable[Float[np.ndarray, "c ..."]],
) -> None:
    """Write a float32 array whose rows come a few at a time."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy", ZIP_TIME), "w", force_zip64=True) as entry:
        np.lib.format.write_array_header_1_0(
            entry, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        for part in parts:
            entry.write(np.ascontiguousarray(part, "<f4").tobytes())
