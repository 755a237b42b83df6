"""The cryoSPARC file behind a particle set, written as RELION 3.1 STAR with all its columns, or as
`.cs`.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.cryosparc import StructuredArray, star_columns, text_column, write_cs
from kinesphere.io.star import write_star
from kinesphere.particles.particle_set import ParticleSet, StoredImages
from kinesphere.particles.star_source import folder_to_note


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
        particles: ParticleSet,
        columns: Mapping[str, NDArray[Any]],
        images: StoredImages | None,
    ) -> None:
        """Write RELION's columns, then the file's own under names that start with `cs`."""
        rows = self.rows[particles.row]
        own = star_columns(rows)
        if images is not None:
            own = {name: values for name, values in own.items() if not name.startswith("csBlob")}
        table = {
            **_image_columns(particles, rows, images),
            **_relion_columns(particles),
            **own,
            **columns,
        }
        folder = None if images else folder_to_note(particles, path)
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

    def write_cs(self, path: Path, particles: ParticleSet) -> None:
        """Write the rows of `particles` with the file's own columns, unchanged."""
        names = list(self.own_type.names or ())
        write_cs(path, repack_fields(self.rows[names])[particles.row])


def _image_columns(
    particles: ParticleSet, rows: StructuredArray, images: StoredImages | None
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


def _relion_columns(particles: ParticleSet) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    if particles.has_poses:
        rot, tilt, psi = _euler_degrees(particles.rotation).T
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


def _euler_degrees(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """RELION's rot, tilt, psi, (n, 3)."""
    with warnings.catch_warnings():
        # Without tilt only rot + psi is defined, and scipy says so; its choice (psi = 0) is as good
        # as any.
        warnings.filterwarnings("ignore", message="Gimbal lock")
        angles: NDArray[np.float64] = Rotation.from_matrix(rotation).as_euler("ZYZ", degrees=True)
    return angles


def _optics_columns(particles: ParticleSet, images: StoredImages | None) -> dict[str, list[Any]]:
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
