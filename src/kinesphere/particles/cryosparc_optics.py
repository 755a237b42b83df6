"""Optics groups from a cryoSPARC `.cs` file: its exposure groups, and the higher aberrations they
carry.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.cryosparc import StructuredArray
from kinesphere.particles.optics import IDENTITY, OpticsGroup
from kinesphere.particles.star_optics import distinct_rows, number_names

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
