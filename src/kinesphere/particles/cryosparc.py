"""cryoSPARC's `.cs` files: what they say of each particle and of its optics, and the file written
again, as RELION 3.1 STAR with all its columns or as `.cs`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.imaging.pose import euler_from_rotation
from kinesphere.io.cryosparc import (
    StructuredArray,
    join_passthrough,
    read_cs,
    star_columns,
    text_column,
    write_cs,
)
from kinesphere.io.star import write_star
from kinesphere.particles.grid import complete_pixel_grid
from kinesphere.particles.image_files import image_files
from kinesphere.particles.metadata import ParticleMetadata, StoredImages
from kinesphere.particles.optics import IDENTITY, OpticsGroup, distinct_rows, number_names

DEFOCUS = ("ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad")
# The fields that images of one group share, and how many numbers each holds.
_FIELDS = {
    "ctf/exp_group_id": 1,
    "ctf/accel_kv": 1,
    "ctf/cs_mm": 1,
    "ctf/amp_contrast": 1,
    "blob/psize_A": 1,
    "blob/shape": 2,
    "ctf/tilt_A": 2,
    "ctf/trefoil_A": 2,
    "ctf/tetra_A": 4,
    "ctf/anisomag": 4,
}
_LARGEST_BEAM_SHIFT_PX = 0.25


@dataclass(frozen=True, eq=False)
class CryosparcSource:
    """A `.cs` file that particles came from.

    Attributes
    ----------
    path
        The file.
    rows
        (n,) all its rows, with the columns of the passthrough file.
    own_type
        Columns and types of the file alone.
    """

    path: Path
    rows: StructuredArray
    own_type: np.dtype[Any]

    @property
    def format_name(self) -> str:
        """The program, and how many columns its files hold."""
        return f"cryoSPARC, {len(self.rows.dtype.names or ())} columns"

    def write_star(
        self,
        path: Path,
        particles: ParticleMetadata,
        columns: Mapping[str, NDArray[Any]],
        images: StoredImages | None,
    ) -> None:
        """Write RELION's columns, then the file's own under names that start with `cs`."""
        rows = self.rows[particles.row]
        file_columns = star_columns(rows)
        if images is not None:
            file_columns = {
                name: values
                for name, values in file_columns.items()
                if not name.startswith("csBlob")
            }
        table = {
            **_image_columns(particles, rows, images),
            **_relion_columns(particles),
            **file_columns,
            **columns,
        }
        folder = None if images else particles.files.folder_to_note(path)
        write_star(
            path,
            {"optics": _optics_columns(particles, images), "particles": table},
            image_folder=folder,
        )

    def column(self, name: str) -> NDArray[Any]:
        """Read one column of the file or of its passthrough file."""
        names = [
            field for field in self.rows.dtype.names or () if self.rows.dtype[field].shape == ()
        ]
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            remedy = f"Did you mean {near[0]}?" if near else "Check its name in the file"
            raise InputError(self.path, f"has no column {name} of single values", remedy)
        if self.rows.dtype[name].kind == "S":
            return text_column(self.rows, name)
        values: NDArray[np.float64] = self.rows[name].astype(np.float64)
        return values

    def write_cs(self, path: Path, particles: ParticleMetadata) -> None:
        """Write the rows of `particles` with the file's own columns, unchanged."""
        names = list(self.own_type.names or ())
        write_cs(path, repack_fields(self.rows[names])[particles.row])


def read_cryosparc_particles(
    path: Path, passthrough: Path | None = None, pixel_size_angstrom: float | None = None
) -> ParticleMetadata:
    """Read a `.cs` file of particles; see `ParticleSet.read`.

    The pose is a rotation vector whose matrix is R; the shift, in pixels of the images that were
    aligned, has the sign of RELION's origins; `alignments3D/split` 0 and 1 are halves 1 and 2.
    """
    file_rows = read_cs(path)
    if len(file_rows) == 0:
        raise InputError(path, "holds no particles: it has no rows", "Check the job that made it")
    rows = join_passthrough(file_rows, path, passthrough) if passthrough else file_rows
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
    return ParticleMetadata(
        table=CryosparcSource(path, rows, file_rows.dtype),
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


def read_optics(
    path: Path, rows: StructuredArray, *, has_ctf: bool
) -> tuple[tuple[OpticsGroup, ...], NDArray[np.int64], list[str]]:
    """Collect the optics groups.

    Parameters
    ----------
    path
        The file, for messages.
    rows
        (n,) particles.
    has_ctf
        Whether the constants of the CTF are there.

    Returns
    -------
    groups
        One for each distinct set of the values that images of a group share.
    group_of_row
        (n,) position in `groups`.
    warnings
        Effects left out.

    Raises
    ------
    InputError
        If the images are not square.
    """
    present = [name for name in _FIELDS if name in (rows.dtype.names or ())]
    columns = {name: rows[name].reshape(len(rows), -1).astype(np.float64) for name in present}
    first, group_of_row = distinct_rows(
        [values[:, i] for values in columns.values() for i in range(values.shape[1])]
    )
    groups = []
    for row in first:
        value = {name: values[row] for name, values in columns.items()}
        groups.append(_group(path, value, has_ctf=has_ctf))
    return number_names(groups), group_of_row, _beam_shift_warning(rows)


def _group(path: Path, value: dict[str, NDArray[np.float64]], *, has_ctf: bool) -> OpticsGroup:
    def number(name: str) -> float:
        # float32 in the file: seven digits are what it holds.
        return float(f"{value[name][0]:.7g}") if name in value else float("nan")

    height, width = value.get("blob/shape", (0, 0))
    if height != width:
        problem = f"holds images of {width:.0f} x {height:.0f} px"
        raise InputError(path, problem, "Extract the particles with a square box")
    spherical_aberration = number("ctf/cs_mm") if has_ctf else float("nan")
    anisotropy = value.get("ctf/anisomag", np.zeros(4))
    matrix = [
        float(identity + excess) for identity, excess in zip(IDENTITY, anisotropy, strict=True)
    ]
    return OpticsGroup(
        name=f"expGroup{int(value['ctf/exp_group_id'][0])}"
        if "ctf/exp_group_id" in value
        else "expGroup",
        pixel_size_angstrom=number("blob/psize_A"),
        box_px=int(height),
        voltage_kv=number("ctf/accel_kv") if has_ctf else float("nan"),
        spherical_aberration_mm=spherical_aberration,
        amplitude_contrast=number("ctf/amp_contrast") if has_ctf else float("nan"),
        beam_tilt_mrad=_beam_tilt(value.get("ctf/tilt_A", np.zeros(2)), spherical_aberration),
        magnification=(matrix[0], matrix[1], matrix[2], matrix[3]),
        trefoil_angstrom=tuple(value.get("ctf/trefoil_A", np.zeros(0)).tolist()),
        tetrafoil_angstrom=tuple(value.get("ctf/tetra_A", np.zeros(0)).tolist()),
    )


def _beam_tilt(
    tilt_angstrom: NDArray[np.float64], spherical_aberration_mm: float
) -> tuple[float, float]:
    """Beam tilt in mrad: cryoSPARC's `ctf/tilt_A` is C_s·sin(tilt), as in pyem's conversion to
    RELION.
    """
    if not spherical_aberration_mm > 0:
        return (0.0, 0.0)
    sine = (tilt_angstrom / (spherical_aberration_mm * 1e7)).clip(-1, 1)
    x, y = np.arcsin(sine) * 1e3
    return (float(x), float(y))


def _beam_shift_warning(rows: StructuredArray) -> list[str]:
    """Report phase ramps, which move the image: cryoSPARC keeps them apart from the particle's
    shift.
    """
    if not {"ctf/shift_A", "blob/psize_A"} <= set(rows.dtype.names or ()):
        return []
    shift_px = np.linalg.norm(rows["ctf/shift_A"], axis=1) / rows["blob/psize_A"]
    if not shift_px.max() > _LARGEST_BEAM_SHIFT_PX:
        return []
    return [f"ctf/shift_A, up to {shift_px.max():.2f} px, is left out of the shifts"]


def _image_columns(
    particles: ParticleMetadata, rows: StructuredArray, images: StoredImages | None
) -> dict[str, NDArray[Any]]:
    if images is not None:
        return {
            "rlnImageName": np.array(
                [f"{n:06d}@{images.stack}" for n in range(1, len(particles) + 1)]
            )
        }
    stacks = [particles.files.names[file] for file in particles.image_file]
    names = [
        f"{slot + 1:06d}@{stack}" for slot, stack in zip(particles.image_slot, stacks, strict=True)
    ]
    columns: dict[str, NDArray[Any]] = {"rlnImageName": np.array(names)}
    if "location/micrograph_path" in (rows.dtype.names or ()):
        paths = text_column(rows, "location/micrograph_path")
        columns["rlnMicrographName"] = np.array([name.removeprefix(">") for name in paths.tolist()])
    return columns


def _relion_columns(particles: ParticleMetadata) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    if particles.has_poses:
        rot, tilt, psi = euler_from_rotation(particles.rotation).T
        x, y = 0.0 - particles.shift_angstrom.T
        columns |= {"rlnAngleRot": rot, "rlnAngleTilt": tilt, "rlnAnglePsi": psi}
        columns |= {"rlnOriginXAngst": x, "rlnOriginYAngst": y}
    if particles.has_ctf:
        columns |= {
            "rlnDefocusU": particles.defocus_u_angstrom,
            "rlnDefocusV": particles.defocus_v_angstrom,
            "rlnDefocusAngle": particles.defocus_angle_degrees,
            "rlnPhaseShift": particles.phase_shift_degrees,
            "rlnCtfBfactor": particles.ctf_b_factor,
            "rlnCtfScalefactor": particles.ctf_scale,
        }
    if particles.half.any():
        columns["rlnRandomSubset"] = particles.half
    return columns | {"rlnOpticsGroup": particles.optics_group + 1}


def _optics_columns(
    particles: ParticleMetadata, images: StoredImages | None
) -> dict[str, list[Any]]:
    groups = particles.optics
    columns: dict[str, list[Any]] = {
        "rlnOpticsGroup": list(range(1, len(groups) + 1)),
        "rlnOpticsGroupName": [group.name for group in groups],
        "rlnImagePixelSize": [
            images.pixel_size_angstrom if images else group.pixel_size_angstrom for group in groups
        ],
        "rlnImageDimensionality": [2] * len(groups),
    }
    boxes = [images.box_px if images else group.box_px for group in groups]
    if all(boxes):
        columns["rlnImageSize"] = boxes
    if particles.has_ctf:
        columns["rlnVoltage"] = [group.voltage_kv for group in groups]
        columns["rlnSphericalAberration"] = [group.spherical_aberration_mm for group in groups]
        columns["rlnAmplitudeContrast"] = [group.amplitude_contrast for group in groups]
    if any(any(group.beam_tilt_mrad) for group in groups):
        columns["rlnBeamTiltX"] = [group.beam_tilt_mrad[0] for group in groups]
        columns["rlnBeamTiltY"] = [group.beam_tilt_mrad[1] for group in groups]
    return columns
