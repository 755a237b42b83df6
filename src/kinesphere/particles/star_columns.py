"""What the columns of a STAR file say of each particle: CTF, orientation, shift and half set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.star import StarTable
from kinesphere.particles.optics import OpticsGroup
from kinesphere.particles.star_optics import StarOptics

DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
# RELION's mark for an in-plane angle that was never estimated.
NOT_ESTIMATED_DEGREES = -999.0
# Å; origins stored in pixels and in Å are rounded to six digits by RELION, to fewer by other
# programs.
_LARGEST_ORIGIN_DIFFERENCE = 0.05


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
    return Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix(), []


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
