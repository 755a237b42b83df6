"""One structure for each particle image, written as arrays or as models."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.ensemble import chunks
from kinesphere.analysis.finished_run import FinishedRun
from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel, write_model
from kinesphere.runtime import atomic_write

MODEL_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
MAXIMUM_TEXT_ATOMS = 20_000_000
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
            raise InputError("--images", f"{part.strip()!r} is not a particle number", "Give rows from 0, as in 3,7,12")
        particle = int(part)
        if particle not in known:
            raise InputError(
                "--images", f"particle {particle} is not in {source}", f"It holds {len(known)} particles, from 0"
            )
        particles.append(particle)
    return particles


def write_structures(
    path: Path, run: FinishedRun, rows: Int[np.ndarray, " m"], model: AtomicModel | None = None
) -> tuple[int, int]:
    """Write the structures of particles in the frame of the input model.

    Parameters
    ----------
    path
        `.npz` (keys `index`, `positions`, `atom_name`, `residue`, `chain`, `residue_name`, `insertion_code`), or a
        multi-model PDB or mmCIF file (also gzipped).
    run
        Decodes the latents.
    rows
        (m,) particles as rows of the latents.
    model
        Another model in the same frame and the same state, whose atoms are carried along; the run's own by default.

    Returns
    -------
    (int, int)
        Structures and atoms in each.

    Raises
    ------
    InputError
        Where the format is unknown, or the file would not be of use for its size.
    """
    suffix = Path(path.stem if path.suffix == ".gz" else path).suffix.lower()
    moved = run.model if model is None else model
    if suffix == ".npz":
        _write_npz(path, run, rows, moved, model)
    elif suffix in MODEL_SUFFIXES:
        if len(rows) * moved.n_atoms > MAXIMUM_TEXT_ATOMS:
            remedy = "Choose fewer with --every or --images, or write .npz"
            raise InputError(path, f"{len(rows)} models of {moved.n_atoms} atoms are too many for a text file", remedy)
        write_model(path, moved, np.concatenate(list(_positions(run, rows, moved, model))).astype(np.float64))
    else:
        raise InputError(path, f"'{path.suffix}' is not a format for structures", "Use .npz, .pdb or .cif")
    return len(rows), moved.n_atoms


def _positions(
    run: FinishedRun, rows: Int[np.ndarray, " m"], moved: AtomicModel, model: AtomicModel | None
) -> Iterator[Float[np.ndarray, "c atoms 3"]]:
    """Give the structures a chunk at a time, so that memory does not grow with their number."""
    for chunk in chunks(rows, moved.n_atoms):
        if model is None:
            yield np.asarray(run.structures(chunk), np.float32)
        else:
            points = model.positions_angstrom
            yield np.asarray(points + np.asarray(run.displacements(points, chunk)), np.float32)


def _write_npz(
    path: Path, run: FinishedRun, rows: Int[np.ndarray, " m"], moved: AtomicModel, model: AtomicModel | None
) -> None:
    """Write a compressed-free npz whose largest array is streamed."""
    residue = moved.residue_index
    small = {
        "index": np.asarray(run.latents.index)[rows],
        "atom_name": moved.atom_name,
        "residue": moved.residue_number[residue],
        "chain": moved.chain[residue],
        "residue_name": moved.residue_name[residue],
        "insertion_code": moved.insertion_code[residue],
    }
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in small.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", ZIP_TIME), "w") as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
        with archive.open(zipfile.ZipInfo("positions.npy", ZIP_TIME), "w", force_zip64=True) as entry:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), moved.n_atoms, 3)}
            np.lib.format.write_array_header_1_0(entry, header)
            for chunk in _positions(run, rows, moved, model):
                entry.write(np.ascontiguousarray(chunk, "<f4").tobytes())
