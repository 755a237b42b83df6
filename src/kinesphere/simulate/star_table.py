"""The RELION 3.1 star file of simulated particles."""

from __future__ import annotations

import numpy as np

from kinesphere.imaging.pose import euler_from_rotation
from kinesphere.simulate.draws import Draws
from kinesphere.simulate.recipe import Recipe

_OPTICS_COLUMNS = (
    "rlnOpticsGroup",
    "rlnOpticsGroupName",
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
    "rlnImagePixelSize",
    "rlnImageSize",
    "rlnImageDimensionality",
)
_PARTICLE_COLUMNS = (
    "rlnImageName",
    "rlnOpticsGroup",
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
    "rlnOriginXAngst",
    "rlnOriginYAngst",
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnPhaseShift",
    "rlnRandomSubset",
)


def star_text(draws: Draws, recipe: Recipe, stack_name: str) -> str:
    """Format optics and particles; origins are minus the shift, as RELION has them.

    Parameters
    ----------
    draws
        The recorded poses go into the file, which differ from the true ones by the recipe's errors.
    recipe
        Microscope and image size.
    stack_name
        Stack of the images, beside the star file.
    """
    optics = [
        f"{group + 1} opticsGroup{group + 1} {recipe.group_voltage_kv(group):.6f} {recipe.spherical_aberration_mm:.6f} "
        f"{recipe.amplitude_contrast:.6f} {recipe.pixel_size:.6f} {recipe.box} 2"
        for group in range(recipe.optics_groups)
    ]
    numbers = np.column_stack(
        [
            euler_from_rotation(draws.recorded_rotation),
            -draws.recorded_shift_angstrom,
            draws.defocus_u_angstrom,
            draws.defocus_v_angstrom,
            draws.defocus_angle_degrees,
            np.full(len(draws.state), recipe.phase_shift_degrees),
        ]
    )
    particles = [
        f"{row + 1:06d}@{stack_name} {group + 1} " + " ".join(f"{value:.6f}" for value in values) + f" {half}"
        for row, (group, values, half) in enumerate(zip(draws.optics_group, numbers, draws.half, strict=True))
    ]
    return _loop("optics", _OPTICS_COLUMNS, optics) + _loop("particles", _PARTICLE_COLUMNS, particles)


def _loop(name: str, columns: tuple[str, ...], rows: list[str]) -> str:
    header = [f"_{column} #{number}" for number, column in enumerate(columns, start=1)]
    return "\n".join(["", "# version 30001", "", f"data_{name}", "", "loop_", *header, *rows, "", ""])
