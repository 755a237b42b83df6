"""Particle sets from cryoSPARC `.cs` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.cryosparc import StructuredArray, join_passthrough, read_cs, text_column
from kinesphere.particles.cryosparc_optics import read_optics
from kinesphere.particles.cryosparc_source import CryosparcSource
from kinesphere.particles.image_files import image_files
from kinesphere.particles.particle_set import ParticleSet
from kinesphere.particles.pixel_grid import complete_pixel_grid

DEFOCUS = ("ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad")


def read_cryosparc_particles(
    path: Path, passthrough: Path | None = None, pixel_size_angstrom: float | None = None
) -> ParticleSet:
    """Read a `.cs` file of particles; see `ParticleSet.read`.

    The pose is a rotation vector whose matrix is R; the shift, in pixels of the images that were
    aligned, has the sign of RELION's origins; `alignments3D/split` 0 and 1 are halves 1 and 2.
    """
    own = read_cs(path)
    if len(own) == 0:
        raise InputError(path, "holds no particles: it has no rows", "Check the job that made it")
    rows = join_passthrough(own, path, passthrough) if passthrough else own
    names = set(rows.dtype.names or ())
    _require_images(path, names)
    stacks, inverse = np.unique(text_column(rows, "blob/path"), return_inverse=True)
    file: NDArray[np.int32] = inverse.astype(np.int32)
    files = image_files(path, [stack.removeprefix(">") for stack in stacks.tolist()])
    optics, group_of_row, optics_warnings = read_optics(path, rows, has_ctf=_has_ctf(path, names))
    groups, grid_warnings = complete_pixel_grid(
        files, file, optics, group_of_row, pixel_size_angstrom
    )
    rotation, shift, pose_warnings = _read_poses(path, rows)
    if pixel_size_angstrom is not None:
        stored = np.array([group.pixel_size_angstrom for group in optics])[group_of_row]
        shift *= pixel_size_angstrom / stored[:, None]
    half, half_warnings = _read_half(rows)
    return ParticleSet(
        table=CryosparcSource(path, rows, own.dtype),
        files=files,
        optics=groups,
        has_poses=rotation is not None,
        has_ctf=_has_ctf(path, names),
        rotation=np.tile(np.eye(3), (len(rows), 1, 1)) if rotation is None else rotation,
        shift_angstrom=shift,
        defocus_u_angstrom=_numbers(path, rows, "ctf/df1_A"),
        defocus_v_angstrom=_numbers(path, rows, "ctf/df2_A"),
        defocus_angle_degrees=np.rad2deg(_numbers(path, rows, "ctf/df_angle_rad")),
        phase_shift_degrees=np.rad2deg(_numbers(path, rows, "ctf/phase_shift_rad")),
        ctf_b_factor=_numbers(path, rows, "ctf/bfactor"),
        ctf_scale=_numbers(path, rows, "ctf/scale", 1.0),
        optics_group=group_of_row,
        half=half,
        image_file=file,
        image_slot=rows["blob/idx"].astype(np.int64),
        row=np.arange(len(rows)),
        warnings=(*optics_warnings, *grid_warnings, *pose_warnings, *half_warnings),
        recorded_sign=_recorded_sign(rows),
    )


def _require_images(path: Path, names: set[str]) -> None:
    missing = [name for name in ("blob/path", "blob/idx") if name not in names]
    if not missing:
        return
    if "micrograph_blob/path" in names and "alignments3D/pose" not in names:
        raise InputError(
            path,
            "holds micrographs, not particles",
            "Give the particles of an extraction or a refinement",
        )
    problem = f"names no images: {' and '.join(missing)} missing"
    raise InputError(
        path, problem, "Pass the job's other file (passthrough_particles.cs) with --passthrough"
    )


def _has_ctf(path: Path, names: set[str]) -> bool:
    constants = ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast")
    missing = [name for name in (*DEFOCUS, *constants) if name not in names]
    if missing and not set(DEFOCUS) - set(missing):
        return False
    if missing:
        problem = f"has an incomplete CTF: {' and '.join(missing)} missing"
        raise InputError(path, problem, "Pass the file that has them with --passthrough")
    return True


def _numbers(
    path: Path, rows: StructuredArray, name: str, default: float = 0.0
) -> NDArray[np.float64]:
    """Return a column as float64, (n, …); the default where it is missing."""
    if name not in (rows.dtype.names or ()):
        return np.full(len(rows), default)
    values: NDArray[np.float64] = rows[name].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(rows), -1)).all(axis=1))
    if bad.size:
        problem = f"{name} of row {bad[0] + 1} is not a finite number ({bad.size} such rows)"
        raise InputError(path, problem, "Remove these particles")
    return values


def _read_poses(
    path: Path, rows: StructuredArray
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64], list[str]]:
    """Rotation (n, 3, 3) or None, shift (n, 2) Å, and why there is no rotation."""
    names = rows.dtype.names or ()
    if "alignments3D/pose" not in names:
        others = sorted({name.partition("/")[0] for name in names if name.startswith("alignments")})
        more = f" (only {', '.join(others)})" if others else ""
        return None, np.zeros((len(rows), 2)), [f"no poses: alignments3D/pose missing{more}"]
    rotation = Rotation.from_rotvec(_numbers(path, rows, "alignments3D/pose")).as_matrix()
    aligned = "alignments3D/psize_A" if "alignments3D/psize_A" in names else "blob/psize_A"
    pixel_size = _numbers(path, rows, aligned)
    if "alignments3D/shift" not in names:
        return (
            rotation,
            np.zeros((len(rows), 2)),
            ["no alignments3D/shift: the images are taken as centred"],
        )
    return rotation, -_numbers(path, rows, "alignments3D/shift") * pixel_size[:, None], []


def _read_half(rows: StructuredArray) -> tuple[NDArray[np.int64], list[str]]:
    nothing = np.zeros(len(rows), dtype=np.int64)
    if "alignments3D/split" not in (rows.dtype.names or ()):
        return nothing, []
    split = rows["alignments3D/split"].astype(np.int64)
    if set(np.unique(split).tolist()) != {0, 1}:
        return nothing, ["alignments3D/split does not name two halves: left aside"]
    return split + 1, []


def _recorded_sign(rows: StructuredArray) -> int:
    """Sign that all images have by `blob/sign`, else 0."""
    if "blob/sign" not in (rows.dtype.names or ()):
        return 0
    signs = np.unique(np.sign(rows["blob/sign"]))
    return int(signs[0]) if signs.size == 1 else 0
