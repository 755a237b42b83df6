"""From the table of a particle set to the CTF parameters that the image model takes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.imaging.ctf import CtfParameters
from kinesphere.particles.particle_set import ParticleSet


def ctf_parameters(particles: ParticleSet, rows: ArrayLike | None = None) -> CtfParameters:
    """Collect the CTF parameters of some particles, those of the optics group included.

    Parameters
    ----------
    particles
        A set with CTF columns.
    rows
        ``(b,)`` rows of the set; all by default.

    Returns
    -------
    CtfParameters
        float32, angles in radians.

    Raises
    ------
    InputError
        If the set has no CTF.
    """
    if not particles.has_ctf:
        raise InputError(
            particles.source,
            "has no CTF parameters",
            "Use a file with defocus, voltage and Cs columns",
        )
    chosen = np.arange(len(particles)) if rows is None else np.asarray(rows)
    group = particles.optics_group[chosen]

    def of_optics(field: str) -> Tensor:
        return _float32(
            np.array([getattr(optics, field) for optics in particles.optics], dtype=np.float64)[
                group
            ]
        )

    return CtfParameters(
        defocus_u_angstrom=_float32(particles.defocus_u_angstrom[chosen]),
        defocus_v_angstrom=_float32(particles.defocus_v_angstrom[chosen]),
        defocus_angle_radians=_float32(np.deg2rad(particles.defocus_angle_degrees[chosen])),
        phase_shift_radians=_float32(np.deg2rad(particles.phase_shift_degrees[chosen])),
        voltage_kv=of_optics("voltage_kv"),
        spherical_aberration_mm=of_optics("spherical_aberration_mm"),
        amplitude_contrast=of_optics("amplitude_contrast"),
        b_factor_angstrom2=_float32(particles.ctf_b_factor[chosen]),
        scale=_float32(particles.ctf_scale[chosen]),
    )


def _float32(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
