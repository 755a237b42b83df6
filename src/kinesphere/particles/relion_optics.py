"""Optics groups from a STAR file: from its optics table, from columns of the particles, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.star import StarTable
from kinesphere.particles.optics import (
    IDENTITY,
    OpticsGroup,
    distinct_rows,
    number_names,
)

# Fields that RELION takes from the particle's row where it is there, else from the optics group,
# and their columns.
_ROW_FIELDS = {
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
}
_MAGNIFICATION = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")


@dataclass(frozen=True, eq=False)
class StarOptics:
    """Optics groups and the group of each particle.

    Attributes
    ----------
    groups
        A group of the file appears more than once where its particles' own columns differ.
    group_of_row
        (n,) position in `groups`.
    warnings
        Contradictions found, a sentence each.
    """

    groups: tuple[OpticsGroup, ...]
    group_of_row: NDArray[np.int64]
    warnings: tuple[str, ...]


def read_optics(particles: StarTable, optics: StarTable | None) -> StarOptics:
    """Collect the optics groups of a particle table.

    Parameters
    ----------
    particles
        Table of the particles.
    optics
        Table of the optics groups; None in RELION 3.0 files.

    Returns
    -------
    StarOptics
        `pixel_size_angstrom` is NaN where the file says nothing.

    Raises
    ------
    InputError
        If a particle's group is not in the table, or a value is not a number.
    """
    base = _base_groups(optics)
    group_of_row = _group_of_rows(particles, optics)
    of_row = {
        field: particles.numbers(column)
        for field, column in _ROW_FIELDS.items()
        if column in particles
    }
    warnings = [
        *_contradictions(of_row, base, group_of_row),
        *_pixel_contradiction(particles, base, group_of_row),
    ]
    pixel_size = _row_pixel_size(particles)
    if (
        pixel_size is not None
        and not np.isfinite([group.pixel_size_angstrom for group in base]).all()
    ):
        of_row["pixel_size_angstrom"] = pixel_size
    if {"rlnBeamTiltX", "rlnBeamTiltY"} <= set(particles.columns):
        of_row |= {
            "tilt_x": particles.numbers("rlnBeamTiltX"),
            "tilt_y": particles.numbers("rlnBeamTiltY"),
        }
    if not of_row:
        return StarOptics(tuple(base), group_of_row, tuple(warnings))
    first, code = distinct_rows([group_of_row, *of_row.values()])
    members = [
        _with_fields(
            base[group_of_row[row]], {field: float(values[row]) for field, values in of_row.items()}
        )
        for row in first
    ]
    return StarOptics(number_names(members), code, tuple(warnings))


def _base_groups(optics: StarTable | None) -> list[OpticsGroup]:
    if optics is None:
        return [OpticsGroup("opticsGroup1", float("nan"), 0)]
    numbers = {name: optics.numbers(name) for name in _numeric_columns(optics)}
    zernikes = {
        name: optics.text(name) for name in ("rlnOddZernike", "rlnEvenZernike") if name in optics
    }
    names = optics.text("rlnOpticsGroupName") if "rlnOpticsGroupName" in optics else None
    return [
        _base_group(
            names[row] if names else f"opticsGroup{row + 1}",
            {name: float(values[row]) for name, values in numbers.items()},
            {name: _parse_list(optics, name, values[row]) for name, values in zernikes.items()},
        )
        for row in range(optics.n_rows)
    ]


def _numeric_columns(optics: StarTable) -> list[str]:
    wanted = {
        *_ROW_FIELDS.values(),
        *("rlnImagePixelSize", "rlnPixelSize", "rlnImageSize", "rlnBeamTiltX", "rlnBeamTiltY"),
        *("rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"),
        *_MAGNIFICATION,
    }
    return [name for name in optics.columns if name in wanted]


def _base_group(
    name: str, value: dict[str, float], zernike: dict[str, tuple[float, ...]]
) -> OpticsGroup:
    nan = float("nan")
    matrix = [
        value.get(column, default) for column, default in zip(_MAGNIFICATION, IDENTITY, strict=True)
    ]
    return OpticsGroup(
        name=name,
        pixel_size_angstrom=value.get("rlnImagePixelSize", value.get("rlnPixelSize", nan)),
        box_px=int(value.get("rlnImageSize", 0)),
        voltage_kv=value.get("rlnVoltage", nan),
        spherical_aberration_mm=value.get("rlnSphericalAberration", nan),
        amplitude_contrast=value.get("rlnAmplitudeContrast", nan),
        beam_tilt_mrad=(value.get("rlnBeamTiltX", 0.0), value.get("rlnBeamTiltY", 0.0)),
        magnification=(matrix[0], matrix[1], matrix[2], matrix[3]),
        odd_zernike=zernike.get("rlnOddZernike", ()),
        even_zernike=zernike.get("rlnEvenZernike", ()),
        is_ctf_premultiplied=value.get("rlnCtfDataAreCtfPremultiplied", 0.0) != 0,
        is_phase_flipped=value.get("rlnCtfDataArePhaseFlipped", 0.0) != 0,
    )


def _parse_list(optics: StarTable, name: str, text: str) -> tuple[float, ...]:
    """Read RELION's `[1.0,2.0]`."""
    try:
        return tuple(float(part) for part in text.strip("[]").split(",") if part.strip())
    except ValueError as error:
        raise InputError(
            optics.path, f"{name} is {text!r}, not a list of numbers", "Correct it"
        ) from error


def _group_of_rows(particles: StarTable, optics: StarTable | None) -> NDArray[np.int64]:
    """Position of each particle's group in the optics table, (n,)."""
    if optics is None or ("rlnOpticsGroup" not in particles and optics.n_rows == 1):
        return np.zeros(particles.n_rows, dtype=np.int64)
    if "rlnOpticsGroup" not in particles:
        problem = f"has {optics.n_rows} optics groups, and its particles have no rlnOpticsGroup"
        raise InputError(particles.path, problem, "Add the column, or keep one optics group")
    numbers = particles.integers("rlnOpticsGroup")
    known = (
        optics.integers("rlnOpticsGroup")
        if "rlnOpticsGroup" in optics
        else np.arange(1, optics.n_rows + 1)
    )
    order = np.argsort(known)
    position = order[np.searchsorted(known, numbers, sorter=order).clip(max=len(known) - 1)]
    bad = np.flatnonzero(known[position] != numbers)
    if bad.size:
        problem = (
            f"row {bad[0] + 1} belongs to optics group {numbers[bad[0]]}, which is not "
            "in the optics table"
        )
        raise InputError(particles.path, problem, "Add the group to data_optics")
    return position.astype(np.int64)


def _row_pixel_size(particles: StarTable) -> NDArray[np.float64] | None:
    """Pixel size of the images by the particles' own columns, (n,) Å; None where they say
    nothing.
    """
    if "rlnImagePixelSize" in particles:
        return particles.numbers("rlnImagePixelSize")
    if "rlnDetectorPixelSize" in particles and "rlnMagnification" in particles:
        magnification = particles.numbers("rlnMagnification")
        if (magnification <= 0).any():
            raise InputError(
                particles.path, "has an rlnMagnification of zero or less", "Correct it"
            )
        # Both columns have few digits; the quotient has no more of them.
        return np.round(particles.numbers("rlnDetectorPixelSize") * 1e4 / magnification, 6)
    return particles.numbers("rlnPixelSize") if "rlnPixelSize" in particles else None


def _contradictions(
    of_row: dict[str, NDArray[np.float64]],
    base: Sequence[OpticsGroup],
    group_of_row: NDArray[np.int64],
) -> list[str]:
    warnings = []
    for field, values in of_row.items():
        shared = np.array([getattr(group, field) for group in base])[group_of_row]
        different = np.flatnonzero(np.isfinite(shared) & ~np.isclose(values, shared, rtol=1e-4))
        if different.size:
            row = different[0]
            warnings.append(
                f"{_ROW_FIELDS[field]} of row {row + 1} is {values[row]:g}, its optics group "
                f"says {shared[row]:g}: "
                "the row's value is used, as RELION does"
            )
    return warnings


def _pixel_contradiction(
    particles: StarTable, base: Sequence[OpticsGroup], group_of_row: NDArray[np.int64]
) -> list[str]:
    of_row = _row_pixel_size(particles)
    if of_row is None:
        return []
    shared = np.array([group.pixel_size_angstrom for group in base])[group_of_row]
    different = np.flatnonzero(np.isfinite(shared) & ~np.isclose(of_row, shared, rtol=2e-3))
    if not different.size:
        return []
    row = different[0]
    return [
        (
            f"pixel size of row {row + 1} is {of_row[row]:g} Å, its optics group says "
            f"{shared[row]:g} Å: that is used"
        )
    ]


def _with_fields(group: OpticsGroup, values: dict[str, float]) -> OpticsGroup:
    tilt = (
        values.pop("tilt_x", group.beam_tilt_mrad[0]),
        values.pop("tilt_y", group.beam_tilt_mrad[1]),
    )
    fields = {field: getattr(group, field) for field in ("voltage_kv", "spherical_aberration_mm")}
    fields |= {
        "amplitude_contrast": group.amplitude_contrast,
        "pixel_size_angstrom": group.pixel_size_angstrom,
    }
    fields |= values
    return replace(group, beam_tilt_mrad=tilt, **fields)
