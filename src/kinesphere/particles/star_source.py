"""The STAR file behind a particle set: copies of it with particles chosen and columns changed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.star import TableEdit, copy_star, format_column, read_star
from kinesphere.particles.particle_set import ParticleSet, StoredImages


@dataclass(frozen=True)
class StarSource:
    """A STAR file that particles came from.

    Attributes
    ----------
    path
        The file.
    stamp
        Its size and time of change when it was read.
    block, columns
        Its particle table and that table's columns.
    optics_block
        Block of its optics table; None in RELION 3.0 files.
    n_optics
        Rows of the optics table.
    pixel_size_angstrom
        The user's, which replaces the file's in what is written; None where the file's holds.
    """

    path: Path
    stamp: tuple[int, int]
    block: str
    columns: tuple[str, ...]
    optics_block: str | None
    n_optics: int
    pixel_size_angstrom: float | None = None

    @property
    def format_name(self) -> str:
        """RELION's version by what the file holds."""
        return "RELION 3.0 STAR" if self.optics_block is None else "RELION 3.1+ STAR"

    def write_star(
        self,
        path: Path,
        particles: ParticleSet,
        columns: Mapping[str, NDArray[Any]],
        images: StoredImages | None,
    ) -> None:
        """Copy the rows of `particles` with every column; see `ParticleSet.write_star`."""
        pixel_size = images.pixel_size_angstrom if images else self.pixel_size_angstrom
        changed: dict[str, NDArray[Any]] = {}
        edits: dict[str, TableEdit] = {}
        if images is not None:
            names = [f"{number:06d}@{images.stack}" for number in range(1, len(particles) + 1)]
            changed["rlnImageName"] = np.array(names)
        if pixel_size is not None:
            box = images.box_px if images else None
            changed |= self._grid_columns(particles, pixel_size, box)
            edits |= self._optics_edit(pixel_size, box)
        texts = {name: format_column(values) for name, values in {**changed, **columns}.items()}
        edits[self.block] = TableEdit(particles.row, texts)
        folder = None if images else folder_to_note(particles, path)
        copy_star(self.path, path, edits, stamp=self.stamp, image_folder=folder)

    def write_cs(self, path: Path, particles: ParticleSet) -> None:
        """Refuse: cryoSPARC knows its particles by uids that a STAR file does not have."""
        problem = f"holds {len(particles)} particles of a STAR file, which cannot be written as .cs"
        raise InputError(path, problem, "Write a .star file, which cryoSPARC imports")

    def column(self, name: str) -> NDArray[Any]:
        """Read one column of the file again."""
        star = read_star(self.path)
        if star.stamp != self.stamp:
            raise InputError(
                self.path, "has changed since it was read", "Start again with the new file"
            )
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1)
            remedy = f"Did you mean {near[0]}?" if near else "Check its name in the file"
            raise InputError(self.path, f"has no column {name}", remedy)
        table = next(table for table in star.tables if table.block == self.block and name in table)
        text = np.array(table.text(name))
        try:
            return text.astype(np.float64)
        except ValueError:
            return text

    def _optics_edit(self, pixel_size_angstrom: float, box_px: int | None) -> dict[str, TableEdit]:
        if self.optics_block is None:
            return {}
        grid = {
            "rlnImagePixelSize": pixel_size_angstrom,
            **({"rlnImageSize": box_px} if box_px else {}),
        }
        columns = {name: format_column([value] * self.n_optics) for name, value in grid.items()}
        return {self.optics_block: TableEdit(columns=columns)}

    def _grid_columns(
        self, particles: ParticleSet, pixel_size_angstrom: float, box_px: int | None
    ) -> dict[str, NDArray[Any]]:
        """Columns of the particle table that depend on the pixels of the images."""
        n = len(particles)
        origin_angstrom = 0.0 - particles.shift_angstrom
        pixel = np.full(n, pixel_size_angstrom)
        values: dict[str, NDArray[Any]] = {
            "rlnOriginX": origin_angstrom[:, 0] / pixel,
            "rlnOriginY": origin_angstrom[:, 1] / pixel,
            "rlnImagePixelSize": pixel,
            "rlnPixelSize": pixel,
        }
        if self.pixel_size_angstrom is not None:
            # They were stored with another pixel size; otherwise their text stays as it is.
            values |= {
                "rlnOriginXAngst": origin_angstrom[:, 0],
                "rlnOriginYAngst": origin_angstrom[:, 1],
            }
        if box_px is not None:
            values["rlnImageSize"] = np.full(n, box_px)
        present = {name: column for name, column in values.items() if name in self.columns}
        if self.optics_block is None or "rlnDetectorPixelSize" in self.columns:
            # With this magnification the detector's pixel in micrometres is the image's pixel in Å.
            present |= {"rlnMagnification": np.full(n, 10000.0), "rlnDetectorPixelSize": pixel}
        return present


def folder_to_note(particles: ParticleSet, path: Path) -> Path | None:
    """Return the folder that relative image names start from, where the place of a new file does
    not tell.
    """
    if all(Path(name).is_absolute() for name in particles.files.names):
        return None
    root = particles.files.folder()
    return None if root is None or root in path.resolve().parents else root
