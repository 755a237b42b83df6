"""The contrast transfer function: how the microscope filters every particle image."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from kinesphere.fourier import fourier_grid


@dataclass(frozen=True)
class CtfParameters:
    """CTF parameters of a batch of images; every field is a tensor of shape (n_images,).

    Defocus is positive for underfocus; the astigmatism angle is measured from the x axis towards y;
    the B-factor damps the amplitude as exp(−B s² / 4), RELION's `rlnCtfBfactor`.
    """

    defocus_u_angstrom: Float[Tensor, " n"]
    defocus_v_angstrom: Float[Tensor, " n"]
    defocus_angle_radians: Float[Tensor, " n"]
    phase_shift_radians: Float[Tensor, " n"]
    voltage_kv: Float[Tensor, " n"]
    spherical_aberration_mm: Float[Tensor, " n"]
    amplitude_contrast: Float[Tensor, " n"]
    b_factor_angstrom2: Float[Tensor, " n"]
    scale: Float[Tensor, " n"]

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.defocus_u_angstrom.shape[0])

    def __getitem__(self, index: Tensor | slice) -> CtfParameters:
        """Return the parameters of some of the images."""
        return CtfParameters(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device | str) -> CtfParameters:
        """Return a copy on another device."""
        return CtfParameters(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def electron_wavelength_angstrom(voltage_kv: Tensor) -> Tensor:
    """Return the relativistic electron wavelength in Å for an accelerating voltage in kV.

    λ = h / √(2 m e V (1 + e V / 2 m c²)), in the numerical form RELION uses.
    """
    volts = voltage_kv.double() * 1e3
    return 12.2643247 / torch.sqrt(volts * (1.0 + volts * 0.978466e-6))


def evaluate_ctf(
    parameters: CtfParameters, box: int, pixel_size_angstrom: float
) -> Float[Tensor, "n box half"]:
    """Evaluate the CTF on the Fourier half plane.

    CTF(s) = +sin(πλΔf s² − ½π C_s λ³ s⁴ + asin w + φ) · scale · exp(−B s² / 4), RELION's sign:
    positive at DC.

    Parameters
    ----------
    parameters
        One set of parameters an image.
    box
        Box size in pixels.
    pixel_size_angstrom
        Pixel size of that box in Å.

    Returns
    -------
    Tensor
        (n_images, box, box // 2 + 1), rows ky, columns kx ≥ 0, DC at [0, 0].
    """
    ky, kx = fourier_grid(box, device=parameters.defocus_u_angstrom.device)
    return evaluate_ctf_at(parameters, kx / pixel_size_angstrom, ky / pixel_size_angstrom)


def evaluate_ctf_at(parameters: CtfParameters, sx: Tensor, sy: Tensor) -> Tensor:
    """Evaluate the CTF at given spatial frequencies.

    Parameters
    ----------
    parameters
        One set of parameters an image.
    sx, sy
        Spatial frequencies in 1/Å, any (common) shape.

    Returns
    -------
    Tensor
        (n_images, *shape of the frequencies).
    """
    column = (slice(None),) + (None,) * torch.broadcast_tensors(sx, sy)[0].ndim
    squared = (sx * sx + sy * sy)[None]
    # cos 2(θ − θ₀) without an arctangent: s² cos 2θ = sx² − sy², s² sin 2θ = 2 sx sy
    cosine, sine = (sx * sx - sy * sy)[None], (2.0 * sx * sy)[None]
    double_angle = 2.0 * parameters.defocus_angle_radians[column]
    mean = 0.5 * (parameters.defocus_u_angstrom + parameters.defocus_v_angstrom)[column]
    deviation = 0.5 * (parameters.defocus_u_angstrom - parameters.defocus_v_angstrom)[column]
    defocus_term = mean * squared + deviation * (
        cosine * torch.cos(double_angle) + sine * torch.sin(double_angle)
    )
    wavelength = electron_wavelength_angstrom(parameters.voltage_kv).to(squared.dtype)
    aberration = 0.5 * math.pi * (parameters.spherical_aberration_mm * 1e7 * wavelength**3)[column]
    offset = (torch.asin(parameters.amplitude_contrast) + parameters.phase_shift_radians)[column]
    phase = math.pi * wavelength[column] * defocus_term - aberration * squared**2 + offset
    envelope = parameters.scale[column] * torch.exp(
        -0.25 * parameters.b_factor_angstrom2[column] * squared
    )
    return torch.sin(phase) * envelope
