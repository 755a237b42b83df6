"""The forward model: from positions to what an image should look like, in units of its noise."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters, evaluate_ctf_at
from kinesphere.imaging.gaussians import RenderPlan, gaussian_envelope, inner_products, render_coefficients


class ForwardModel:
    """image = CTF · envelope · Σ_g a_g exp(−2πi k·x_g) on a Fourier band; the shift is undone in the data instead.

    Parameters
    ----------
    band
        The coefficients that are modelled.
    amplitude
        (n_points,) integrated intensity of each point.
    width_angstrom
        Standard deviation of the Gaussians.
    """

    def __init__(self, band: FourierBand, amplitude: Float[Tensor, " p"], width_angstrom: float) -> None:
        self.band, self.amplitude, self.width_angstrom = band, amplitude, width_angstrom
        self.grid = band.smallest_grid()
        envelope = band.select(gaussian_envelope(self.grid, width_angstrom, band.shell.device))
        self._plan = RenderPlan.of_frequencies(self.grid, band.row, band.column, envelope)
        self._sx, self._sy = band.frequencies()

    def coarser(self, n_shells: int) -> ForwardModel:
        """Return the same model on a band of fewer shells, rendered in a smaller box."""
        return ForwardModel(self.band.coarser(n_shells), self.amplitude, self.width_angstrom)

    def structure_factor(self, points_xy: Float[Tensor, "b p 2"]) -> Complex[Tensor, "b m"]:
        """Fourier coefficients of projected points (n_images, n_points, 2) in Å, envelope included, CTF not."""
        return render_coefficients(points_xy, self.amplitude, self._plan)

    def inner_products(
        self, points_xy: Float[Tensor, "b k p 2"], gain: Float[Tensor, "b m"], data: Complex[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Re⟨data, gain · structure factor⟩ and ⟨the latter, itself⟩ of k structures for each image; no gradient."""
        return inner_products(points_xy, self.amplitude, self._plan, gain, data)

    def transfer(self, ctf: CtfParameters) -> Float[Tensor, "b m"]:
        """CTF of each image on the band."""
        return evaluate_ctf_at(ctf, self._sx, self._sy)


def recentre(
    coefficients: Complex[Tensor, "b m"], shift_angstrom: Float[Tensor, "b 2"], band: FourierBand
) -> Complex[Tensor, "b m"]:
    """Move the molecule's centre from `shift_angstrom` (xy) to the image centre: multiply by exp(+2πi s·t)."""
    sx, sy = band.frequencies()
    phase = 2.0 * torch.pi * (shift_angstrom[:, :1] * sx + shift_angstrom[:, 1:] * sy)
    return coefficients * torch.polar(torch.ones_like(phase), phase).to(coefficients.dtype)


def shell_values(
    profile: Float[Tensor, "g shells"], group: Int[Tensor, " b"], band: FourierBand
) -> Float[Tensor, "b m"]:
    """Spread a per-shell profile of each optics group over the coefficients of images in those groups."""
    return profile[group][:, band.shell]
