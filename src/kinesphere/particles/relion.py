"""RELION's STAR files: which table holds particles, what its columns say of each, and copies of the
file with particles chosen and columns changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.imaging.pose import rotation_from_euler
from kinesphere.io.star import StarTable, TableEdit, copy_star, format_column, read_star
from kinesphere.particles.grid import complete_pixel_grid
from kinesphere.particles.image_files import image_files, split_image_names
from kinesphere.particles.metadata import ParticleMetadata, StoredImages
from kinesphere.particles.optics import OpticsGroup
from kinesphere.particles.relion_optics import StarOptics, read_optics

DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
# RELION's mark for an in-plane angle that was never estimated.
NOT_ESTIMATED_DEGREES = -999.0
# Å; origins stored in pixels and in Å are rounded to six digits by RELION, to fewer by other
# programs.
_LARGEST_ORIGIN_DIFFERENCE = 0.05
PREFERRED_BLOCKS = ("particles", "images")
_EXPECTED = (
    "Give a particle STAR file, such as run_data.star of Refine3D or particles.star of Extract"
)
# What other STAR files are, by the beginning of a block's name.
_OTHER_FILES = {
    "stopgap": "a STOPGAP motive list (sub-tomograms)",
    "pipeline": "a RELION pipeline",
    "model": "a RELION model",
    "optimiser": "a RELION optimiser",
    "sampling": "a RELION sampling",
    "fsc": "a RELION postprocess result",
    "guinier": "a RELION postprocess result",
    "micrographs": "a list of micrographs",
    "movies": "a list of movies",
    "coordinate_files": "a list of coordinate files",
    "job": "the options of a RELION job",
    "schedule": "a RELION schedule",
    "global": "a list of tomograms",
    "tomograms": "a list of tomograms",
}


@dataclass(frozen=True)
class RelionSource:
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
        particles: ParticleMetadata,
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
        folder = None if images else particles.files.folder_to_note(path)
        copy_star(self.path, path, edits, stamp=self.stamp, image_folder=folder)

    def write_cs(self, path: Path, particles: ParticleMetadata) -> None:
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
        self, particles: ParticleMetadata, pixel_size_angstrom: float, box_px: int | None
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


def read_relion_particles(path: Path, pixel_size_angstrom: float | None = None) -> ParticleMetadata:
    """Read a particle STAR file; see `ParticleSet.read`."""
    star = read_star(path)
    table = find_particle_table(path, star.tables)
    optics_table = find_optics_table(table, star.tables)
    file, slot, names = split_image_names(path, table.text("rlnImageName"))
    files = image_files(path, names, star.image_folder)
    optics = read_optics(table, optics_table)
    groups, grid_warnings = complete_pixel_grid(
        files, file, optics.groups, optics.group_of_row, pixel_size_angstrom
    )
    ctf = read_ctf(table, replace(optics, groups=groups))
    poses, pose_warnings = read_rotation(table)
    shift, shift_warnings = read_shift(table, optics, groups)
    half, half_warnings = read_half(table)
    return ParticleMetadata(
        table=RelionSource(
            path=path,
            stamp=star.stamp,
            block=table.block,
            columns=table.columns,
            optics_block=optics_table.block if optics_table else None,
            n_optics=optics_table.n_rows if optics_table else 0,
            pixel_size_angstrom=pixel_size_angstrom,
        ),
        files=files,
        optics=ctf.groups,
        has_poses=poses is not None,
        has_ctf=ctf.is_known,
        rotation=np.tile(np.eye(3), (table.n_rows, 1, 1)) if poses is None else poses,
        shift_angstrom=shift,
        defocus_u_angstrom=ctf.defocus_u_angstrom,
        defocus_v_angstrom=ctf.defocus_v_angstrom,
        defocus_angle_degrees=ctf.defocus_angle_degrees,
        phase_shift_degrees=ctf.phase_shift_degrees,
        ctf_b_factor=ctf.b_factor,
        ctf_scale=ctf.scale,
        optics_group=optics.group_of_row,
        half=half,
        image_file=file,
        image_slot=slot,
        row=np.arange(table.n_rows),
        warnings=(
            *optics.warnings,
            *grid_warnings,
            *ctf.warnings,
            *pose_warnings,
            *shift_warnings,
            *half_warnings,
        ),
    )


def find_particle_table(path: Path, tables: Sequence[StarTable]) -> StarTable:
    """Find the table with one row a particle image.

    Parameters
    ----------
    path
        The file, for messages.
    tables
        All its tables.

    Returns
    -------
    StarTable
        The one with `rlnImageName`; of several, the one in a block called `particles` or `images`.

    Raises
    ------
    InputError
        If there is none (the message says what the file is instead), several, one without rows, or
        one of three-dimensional particles.
    """
    found = [table for table in tables if "rlnImageName" in table]
    if len(found) > 1:
        found = [table for table in found if table.block in PREFERRED_BLOCKS] or found
    if len(found) > 1:
        blocks = " and ".join(f"data_{table.block}" for table in found)
        raise InputError(
            path, f"holds {len(found)} tables of images, in {blocks}", "Keep one of them"
        )
    if not found:
        raise InputError(path, _what_else(tables), _EXPECTED)
    _refuse_three_dimensional(path, found[0], tables)
    if found[0].n_rows == 0:
        raise InputError(
            path, "holds no particles: its table is empty", "Check the selection that made it"
        )
    return found[0]


def find_optics_table(particles: StarTable, tables: Sequence[StarTable]) -> StarTable | None:
    """Find the optics groups (RELION 3.1 and later); None where the file has none (RELION 3.0)."""
    named = [table for table in tables if table.block == "optics"]
    others = [table for table in tables if "rlnVoltage" in table and "rlnOpticsGroup" in table]
    return next(
        (table for table in (*named, *others) if table.block != particles.block and table.n_rows),
        None,
    )


def _what_else(tables: Sequence[StarTable]) -> str:
    """Say what a file without particle images is."""
    for table in tables:
        for beginning, description in _OTHER_FILES.items():
            if table.block.startswith(beginning):
                return f"is {description}, it holds no particle images"
    columns = {name for table in tables for name in table.columns}
    if not any(name.startswith("rln") for name in columns):
        return "has no table of RELION's: it holds no particle images"
    if not any(table.n_rows for table in tables):
        return "holds no particles: its table is empty"
    if "rlnCoordinateX" in columns:
        return "holds picked coordinates without images (no rlnImageName)"
    return "has no column rlnImageName"


def _refuse_three_dimensional(
    path: Path, particles: StarTable, tables: Sequence[StarTable]
) -> None:
    reason = _three_dimensional(particles, tables)
    if reason:
        raise InputError(
            path, f"holds sub-tomograms ({reason})", "Give two-dimensional single-particle images"
        )


def _three_dimensional(particles: StarTable, tables: Sequence[StarTable]) -> str | None:
    """Return the evidence that the particles are volumes or tilt stacks; None for single-particle
    images.
    """
    for table in tables:
        if "rlnTomoSubTomosAre2DStacks" in table:
            return "rlnTomoSubTomosAre2DStacks"
        if "rlnImageDimensionality" in table and "3" in table.text("rlnImageDimensionality"):
            return "rlnImageDimensionality is 3"
    for name in particles.columns:
        if name.startswith("rlnTomo") or name in {"rlnOriginZAngst", "rlnOriginZ"}:
            return f"column {name}"
    # RELION 1 and 2 also copied the micrograph's rlnCtfImage to its particles, which are images
    # N@stack.
    if (
        "rlnCtfImage" in particles
        and particles.n_rows
        and "@" not in particles.text("rlnImageName")[0]
    ):
        return "column rlnCtfImage, and image names without @"
    return None


@dataclass(frozen=True, eq=False)
class CtfColumns:
    """CTF parameters of each particle, and the groups whose constants belong to them.

    Attributes
    ----------
    is_known
        False where the file has no CTF; the arrays then hold zeros, and ones for the scale.
    """

    is_known: bool
    groups: tuple[OpticsGroup, ...]
    defocus_u_angstrom: NDArray[np.float64]
    defocus_v_angstrom: NDArray[np.float64]
    defocus_angle_degrees: NDArray[np.float64]
    phase_shift_degrees: NDArray[np.float64]
    b_factor: NDArray[np.float64]
    scale: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def read_ctf(table: StarTable, optics: StarOptics) -> CtfColumns:
    """Read defocus, phase shift, B-factor and scale, and check that the constants of the CTF are
    there too.

    Parameters
    ----------
    table
        The particles.
    optics
        Their groups.

    Returns
    -------
    CtfColumns
        Phase shift and B-factor default to 0, the scale to 1, and the amplitude contrast to 0, as
        in RELION.

    Raises
    ------
    InputError
        If some columns of the CTF are there and others are missing.
    """
    present = [name for name in DEFOCUS if name in table]
    u, v, angle = (
        table.numbers(name) if name in present else np.zeros(table.n_rows) for name in DEFOCUS
    )
    if present and len(present) < len(DEFOCUS):
        _refuse_incomplete_ctf(table, present, [name for name in DEFOCUS if name not in table])
    groups, warnings = _complete_constants(table, optics) if present else (optics.groups, [])
    return CtfColumns(
        is_known=bool(present),
        groups=groups,
        defocus_u_angstrom=u,
        defocus_v_angstrom=v,
        defocus_angle_degrees=angle,
        phase_shift_degrees=_optional(table, "rlnPhaseShift", 0.0),
        b_factor=_optional(table, "rlnCtfBfactor", 0.0),
        scale=_optional(table, "rlnCtfScalefactor", 1.0),
        warnings=tuple(warnings),
    )


def read_rotation(table: StarTable) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Read the orientations, R = Rz(rot)·Ry(tilt)·Rz(psi).

    Parameters
    ----------
    table
        The particles.

    Returns
    -------
    rotation
        (n, 3, 3); None where the file holds none.
    warnings
        Why there are none.

    Raises
    ------
    InputError
        If only some particles have an orientation.
    """
    missing = [name for name in ANGLES if name not in table]
    if missing:
        picked = (
            "rlnAnglePsi" in table and (table.numbers("rlnAnglePsi") == NOT_ESTIMATED_DEGREES).all()
        )
        more = "; rlnAnglePsi is -999, which means not estimated" if picked else ""
        return None, [f"no poses: {', '.join(missing)} missing{more}"]
    angles = np.stack([table.numbers(name) for name in ANGLES], axis=1)
    unknown = np.flatnonzero((angles == NOT_ESTIMATED_DEGREES).any(axis=1))
    if unknown.size == table.n_rows:
        return None, ["no poses: the angles are -999, which means not estimated"]
    if unknown.size:
        problem = (
            f"{unknown.size} particles have an angle of -999 (not estimated), the first "
            f"in row {unknown[0] + 1}"
        )
        raise InputError(table.path, problem, "Refine them, or remove them")
    return rotation_from_euler(angles), []


def read_shift(
    table: StarTable, optics: StarOptics, groups: Sequence[OpticsGroup]
) -> tuple[NDArray[np.float64], list[str]]:
    """Read where the molecule's centre is in each image: minus RELION's origin.

    Origins in Å go before origins in pixels. Where the user's pixel size replaces the file's,
    origins in Å are scaled with it: what was refined is the shift in pixels.

    Parameters
    ----------
    table
        The particles.
    optics
        Groups with the pixel size that the file gives.
    groups
        The same groups with the pixel size that is used.

    Returns
    -------
    shift_angstrom
        (n, 2) xy.
    warnings
        Where both origins are there and differ.
    """
    stored = np.array([group.pixel_size_angstrom for group in optics.groups])
    used = np.array([group.pixel_size_angstrom for group in groups])
    ratio = np.where(np.isfinite(stored), used / stored, 1.0)[optics.group_of_row]
    angstrom = _pair(table, "rlnOriginXAngst", "rlnOriginYAngst", ratio)
    pixels = _pair(table, "rlnOriginX", "rlnOriginY", used[optics.group_of_row])
    warnings = []
    if angstrom is not None and pixels is not None:
        difference = np.abs(angstrom - pixels).max(axis=1)
        if difference.max() > _LARGEST_ORIGIN_DIFFERENCE:
            row = int(difference.argmax())
            warnings.append(
                f"origins in px and in Å differ by up to {difference[row]:.2f} Å (row "
                f"{row + 1}): those in Å are used"
            )
    origin = angstrom if angstrom is not None else pixels
    if origin is None:
        if set(ANGLES) <= set(table.columns):
            warnings.append("no origins: the images are taken as centred")
        return np.zeros((table.n_rows, 2)), warnings
    return 0.0 - origin, warnings


def read_half(table: StarTable) -> tuple[NDArray[np.int64], list[str]]:
    """Read the half sets.

    Parameters
    ----------
    table
        The particles.

    Returns
    -------
    half
        (n,) 1, 2, or 0 where the file says nothing.
    warnings
        Why a column of subsets is not used.
    """
    nothing = np.zeros(table.n_rows, dtype=np.int64)
    if "rlnRandomSubset" not in table:
        return nothing, []
    half = table.integers("rlnRandomSubset")
    if half.min() < 0 or half.max() > 2:
        return nothing, [
            f"rlnRandomSubset goes from {half.min()} to {half.max()}: not half sets, left aside"
        ]
    return half, []


def _optional(table: StarTable, name: str, default: float) -> NDArray[np.float64]:
    return table.numbers(name) if name in table else np.full(table.n_rows, default)


def _pair(
    table: StarTable, x: str, y: str, factor: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    if x not in table or y not in table:
        return None
    return np.stack([table.numbers(x), table.numbers(y)], axis=1) * factor[:, None]


def _complete_constants(
    table: StarTable, optics: StarOptics
) -> tuple[tuple[OpticsGroup, ...], list[str]]:
    """Refuse groups without voltage or Cs, and give those without amplitude contrast the one RELION
    takes.
    """
    used = [optics.groups[position] for position in np.unique(optics.group_of_row)]
    for field, column in (
        ("voltage_kv", "rlnVoltage"),
        ("spherical_aberration_mm", "rlnSphericalAberration"),
    ):
        if any(np.isnan(getattr(group, field)) for group in used):
            _refuse_incomplete_ctf(table, DEFOCUS[:1], [column])
    if not any(np.isnan(group.amplitude_contrast) for group in used):
        return optics.groups, []
    groups = [
        replace(group, amplitude_contrast=0.0) if np.isnan(group.amplitude_contrast) else group
        for group in optics.groups
    ]
    return tuple(groups), [
        (
            "rlnAmplitudeContrast is missing: 0 is used, as RELION does; add the column if that is "
            "wrong"
        )
    ]


def _refuse_incomplete_ctf(
    table: StarTable, present: Sequence[str], missing: Sequence[str]
) -> None:
    problem = f"has an incomplete CTF: {present[0]} is there, {' and '.join(missing)} missing"
    raise InputError(table.path, problem, f"Add {' and '.join(missing)}")
