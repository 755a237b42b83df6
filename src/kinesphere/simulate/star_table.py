"""The RELION 3.1 tables of simulated particles."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kinesphere.imaging.pose import euler_from_rotation
from kinesphere.simulate.draws import Draws
from kinesphere.simulate.recipe import Recipe


def star_tables(draws: Draws, recipe: Recipe, stack_name: str) -> dict[str, dict[str, ArrayLike]]:
    """Lay out optics and particles as columns for `io.star.write_star`.

    Parameters
    ----------
    draws
        The recorded poses are given, which differ from the true ones by the recipe's errors.
    recipe
        Microscope and image size.
    stack_name
        Stack of the images, beside the star file.

    Returns
    -------
    dict
        Columns by name, by block. Origins are minus the shift, as RELION has them.
    """
    return {"optics": _optics(recipe), "particles": _particles(draws, recipe, stack_name)}


def _optics(recipe: Recipe) -> dict[str, ArrayLike]:
    groups = range(recipe.optics_groups)
    n_groups = len(groups)
    return {
        "rlnOpticsGroup": [group + 1 for group in groups],
        "rlnOpticsGroupName": [f"opticsGroup{group + 1}" for group in groups],
        "rlnVoltage": [recipe.group_voltage_kv(group) for group in groups],
        "rlnSphericalAberration": np.full(n_groups, recipe.spherical_aberration_mm),
        "rlnAmplitudeContrast": np.full(n_groups, recipe.amplitude_contrast),
        "rlnImagePixelSize": np.full(n_groups, recipe.pixel_size),
        "rlnImageSize": np.full(n_groups, recipe.box),
        "rlnImageDimensionality": np.full(n_groups, 2),
    }


def _particles(draws: Draws, recipe: Recipe, stack_name: str) -> dict[str, ArrayLike]:
    rot, tilt, psi = euler_from_rotation(draws.recorded_rotation).T
    origin_x, origin_y = -draws.recorded_shift_angstrom.T
    return {
        "rlnImageName": [f"{row:06d}@{stack_name}" for row in range(1, recipe.n + 1)],
        "rlnOpticsGroup": draws.optics_group + 1,
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": origin_x,
        "rlnOriginYAngst": origin_y,
        "rlnDefocusU": draws.defocus_u_angstrom,
        "rlnDefocusV": draws.defocus_v_angstrom,
        "rlnDefocusAngle": draws.defocus_angle_degrees,
        "rlnPhaseShift": np.full(recipe.n, recipe.phase_shift_degrees),
        "rlnRandomSubset": draws.half,
    }
