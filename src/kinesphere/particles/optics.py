"""Optics groups: what images of one microscope session share, and which of its effects the image
model leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import factorial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinesphere.imaging.ctf import electron_wavelength_angstrom

# cos(π/8) = 0.92: below this phase error an unmodelled aberration costs less than a tenth of the
# signal anywhere.
LARGEST_PHASE_ERROR_RADIANS = np.pi / 8
# Displacement, at half the distance from the centre to the edge of the box, below which a
# distortion is left alone.
LARGEST_DISPLACEMENT_PX = 0.5
IDENTITY = (1.0, 0.0, 0.0, 1.0)
_TYPICAL_BOX_PX = 256


@dataclass(frozen=True)
class OpticsGroup:
    """Constants of the microscope and the pixel grid of one group of images.

    Attributes
    ----------
    name
        As in the file.
    pixel_size_angstrom
        Of the particle images.
    box_px
        Edge of the particle images; 0 where neither the file nor an image says.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        Constants of the CTF; NaN where the file has no CTF.
    beam_tilt_mrad
        x and y.
    magnification
        RELION's magnification matrix by rows; it acts on coordinates in the image.
    odd_zernike, even_zernike
        Phase in radians over spatial frequency in 1/Å, in RELION's order.
    trefoil_angstrom, tetrafoil_angstrom
        cryoSPARC's `ctf/trefoil_A` and `ctf/tetra_A`.
    is_ctf_premultiplied, is_phase_flipped
        Whether the stored images were multiplied by their CTF, or by its sign.
    """

    name: str
    pixel_size_angstrom: float
    box_px: int
    voltage_kv: float = float("nan")
    spherical_aberration_mm: float = float("nan")
    amplitude_contrast: float = float("nan")
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    magnification: tuple[float, float, float, float] = IDENTITY
    odd_zernike: tuple[float, ...] = ()
    even_zernike: tuple[float, ...] = ()
    trefoil_angstrom: tuple[float, ...] = ()
    tetrafoil_angstrom: tuple[float, ...] = ()
    is_ctf_premultiplied: bool = False
    is_phase_flipped: bool = False

    @property
    def nyquist_angstrom(self) -> float:
        """Finest resolution that the images can hold."""
        return 2 * self.pixel_size_angstrom

    def unmodelled_effects(self, resolution_angstrom: float | None = None) -> list[str]:
        """Name the effects that matter for these images and that the image model does not have.

        Parameters
        ----------
        resolution_angstrom
            Finest resolution that will be used; by default the images' Nyquist.

        Returns
        -------
        list of str
            Field, value and size of each effect.
        """
        frequency = 1 / max(resolution_angstrom or 0.0, self.nyquist_angstrom)
        effects = [effect for effect in self._phase_effects(frequency) if effect]
        matrix = np.array(self.magnification).reshape(2, 2) - np.eye(2)
        displacement = float(np.linalg.norm(matrix, 2)) * (self.box_px or _TYPICAL_BOX_PX) / 4
        if displacement > LARGEST_DISPLACEMENT_PX:
            values = ", ".join(f"{value:.4g}" for value in self.magnification)
            effects.append(f"rlnMagMat = ({values}): {displacement:.1f} px halfway to the edge")
        if self.is_ctf_premultiplied:
            effects.append(
                "rlnCtfDataAreCtfPremultiplied = 1: the images are multiplied by their CTF"
            )
        if self.is_phase_flipped:
            effects.append(
                "rlnCtfDataArePhaseFlipped = 1: the images are multiplied by the sign of their CTF"
            )
        return effects

    def _phase_effects(self, frequency: float) -> list[str]:
        """Aberrations whose phase up to a spatial frequency (1/Å) is too large; empty strings for
        the others.
        """
        return [
            _describe(
                "rlnBeamTiltX, Y (mrad)", self.beam_tilt_mrad, self._beam_tilt_phase(frequency)
            ),
            _describe(
                "rlnOddZernike",
                self.odd_zernike,
                zernike_phase(self.odd_zernike, (1, 3, 5), frequency),
            ),
            _describe(
                "rlnEvenZernike",
                self.even_zernike,
                zernike_phase(self.even_zernike, (0, 2, 4, 6), frequency),
            ),
            _describe(
                "ctf/trefoil_A",
                self.trefoil_angstrom,
                self._wave_phase(self.trefoil_angstrom, 3, frequency),
            ),
            _describe(
                "ctf/tetra_A",
                self.tetrafoil_angstrom,
                self._wave_phase(self.tetrafoil_angstrom, 4, frequency),
            ),
        ]

    def _beam_tilt_phase(self, frequency: float) -> float:
        """Axial coma 2π C_s λ² s³ t (Zivanov et al., IUCrJ 7, 2020, eq. 1)."""
        tilt_radians = float(np.hypot(*self.beam_tilt_mrad)) * 1e-3
        if not tilt_radians or not np.isfinite(self.voltage_kv):
            return 0.0
        aberration_angstrom = self.spherical_aberration_mm * 1e7
        return 2 * np.pi * aberration_angstrom * self._wavelength**2 * frequency**3 * tilt_radians

    def _wave_phase(self, coefficients: Sequence[float], order: int, frequency: float) -> float:
        """Phase 2π c λᵏ⁻¹ sᵏ of an aberration of order k whose coefficient is a length."""
        size = float(np.linalg.norm(coefficients)) if coefficients else 0.0
        if not size or not np.isfinite(self.voltage_kv):
            return 0.0
        return 2 * np.pi * size * self._wavelength ** (order - 1) * frequency**order

    @property
    def _wavelength(self) -> float:
        return float(electron_wavelength_angstrom(torch.tensor(self.voltage_kv)))


def zernike_phase(coefficients: Sequence[float], orders: Sequence[int], frequency: float) -> float:
    """Largest phase, in radians, of a Zernike expansion up to a spatial frequency.

    Parameters
    ----------
    coefficients
        In RELION's order: for each n of `orders`, m from -n to n in steps of two.
    orders
        Radial orders n.
    frequency
        1/Å; RELION's polynomials take the frequency in 1/Å as their radius.

    Returns
    -------
    float
    """
    if not coefficients:
        return 0.0
    radius = np.linspace(0, frequency, 33)[:, None]
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    terms = [(n, m) for n in orders for m in range(-n, n + 1, 2)]
    phase = np.zeros((33, 48))
    for coefficient, (n, m) in zip(coefficients, terms, strict=False):
        wave = np.sin(-m * angle) if m < 0 else np.cos(m * angle)
        phase += coefficient * _zernike_radial(n, abs(m), radius) * wave
    return float(np.abs(phase).max())


def distinct_rows(columns: Sequence[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the distinct rows of several columns, sorted with the first column foremost.

    Parameters
    ----------
    columns
        (n,) each.

    Returns
    -------
    first
        (g,) first row of each kind.
    kind
        (n,) kind of each row.
    """
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for values in columns:
        if (values != values[0]).any():
            distinct, position = np.unique(values, return_inverse=True)
            code = np.unique(code * distinct.size + position, return_inverse=True)[1]
    _, first, kind = np.unique(code, return_index=True, return_inverse=True)
    return first.astype(np.int64), kind.astype(np.int64)


def number_names(groups: Sequence[OpticsGroup]) -> tuple[OpticsGroup, ...]:
    """Tell groups of one name apart by a number after it."""
    names = [group.name for group in groups]
    seen: dict[str, int] = {}
    numbered = []
    for group in groups:
        seen[group.name] = seen.get(group.name, 0) + 1
        suffix = f"-{seen[group.name]}" if names.count(group.name) > 1 else ""
        numbered.append(replace(group, name=group.name + suffix))
    return tuple(numbered)


def _zernike_radial(n: int, m: int, radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radial Zernike polynomial R_n^m."""
    value = np.zeros_like(radius)
    for k in range((n - m) // 2 + 1):
        weight = factorial(n - k) / (
            factorial(k) * factorial((n + m) // 2 - k) * factorial((n - m) // 2 - k)
        )
        value += (-1) ** k * weight * radius ** (n - 2 * k)
    return value


def _describe(label: str, values: Sequence[float], phase: float) -> str:
    if phase <= LARGEST_PHASE_ERROR_RADIANS:
        return ""
    shown = ", ".join(f"{value:.3g}" for value in values)
    return f"{label} = ({shown}): a phase of {np.rad2deg(phase):.0f}° at the finest resolution"
