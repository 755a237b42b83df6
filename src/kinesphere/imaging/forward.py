"""The forward model: from positions to what an image should look like, in units of its noise."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters, evaluate_ctf_at
from kinesphere.imaging.gaussians import gaussian_envelope
from kinesphere.kernels.comparison import compare_pairs, inner_products
from kinesphere.kernels.rendering import RenderPlan, structure_factor


class ForwardModel:
    """image = CTF · envelope · Σ_g a_g exp(−2πi k·x_g) on a Fourier band; the shift is undone in
    the data instead.

    Parameters
    ----------
    band
        The coefficients that are modelled.
    amplitude
        (n_points,) integrated intensity of each point; or (n_classes, n_points), a share of each
        point in every class.
    width_angstrom
        Standard deviation of the Gaussians; one for every class (DynaMight eq. 8).
    """

    def __init__(
        self,
        band: FourierBand,
        amplitude: Float[Tensor, "*classes p"],
        width_angstrom: float | tuple[float, ...],
    ) -> None:
        self.band = band
        self.amplitude = amplitude
        self.width_angstrom = width_angstrom
        self.grid = band.smallest_grid()
        widths = width_angstrom if isinstance(width_angstrom, tuple) else (width_angstrom,)
        self._plans = tuple(map(self._make_plan, widths))
        self._sx, self._sy = band.frequencies()

    def _make_plan(self, width_angstrom: float) -> RenderPlan:
        envelope = self.band.select(
            gaussian_envelope(self.grid, width_angstrom, self.band.shell.device)
        )
        return self.grid.plan(self.band.row, self.band.column, envelope)

    def coarser(self, n_shells: int) -> ForwardModel:
        """Return the same model on a band of fewer shells, rendered in a smaller box."""
        return ForwardModel(self.band.coarser(n_shells), self.amplitude, self.width_angstrom)

    def weighted(self, weight: Float[Tensor, " p"] | None) -> ForwardModel:
        """Return the same model with the amplitude of each point times a factor; none: 1."""
        if weight is None:
            return self
        other = copy.copy(self)
        other.amplitude = self.amplitude * weight
        return other

    def structure_factor(self, points_xy: Float[Tensor, "b p 2"]) -> Complex[Tensor, "b m"]:
        """Fourier coefficients of projected points (n_images, n_points, 2) in Å, envelope included,
        CTF not.
        """
        return structure_factor(points_xy, self.amplitude, self._plans)

    def inner_products(
        self,
        states: Float[Tensor, "k p 3"],
        rotation: Float[Tensor, "b 3 3"],
        gain: Float[Tensor, "b m"],
        data: Complex[Tensor, "b m"],
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Re⟨data, gain · factor⟩ and ⟨gain · factor⟩² of k shared structures in each image's pose;
        no gradient.
        """
        return inner_products(states, rotation, self.amplitude, self._plans, gain, data)

    def compare(
        self,
        states: Float[Tensor, "k p 3"],
        rotation: Float[Tensor, "b 3 3"],
        gain: Float[Tensor, "b m"],
        data: Complex[Tensor, "b m"],
        image: Int[Tensor, " q"],
        state: Int[Tensor, " q"],
    ) -> tuple[Float[Tensor, " q"], Float[Tensor, " q"], Complex[Tensor, "q m"]]:
        """Compare chosen pairs of an image and a structure, differentiable in structures and
        amplitudes.

        Returns
        -------
        tuple
            Re⟨data, gain · factor⟩ and ⟨gain · factor⟩² of each pair (q,), and the structure
            factors (q, m).
        """
        return compare_pairs(
            states, rotation, self.amplitude, self._plans, gain, data, image, state
        )

    def transfer(self, ctf: CtfParameters) -> Float[Tensor, "b m"]:
        """CTF of each image on the band."""
        return evaluate_ctf_at(ctf, self._sx, self._sy)


def recentre(
    coefficients: Complex[Tensor, "b m"], shift_angstrom: Float[Tensor, "b 2"], band: FourierBand
) -> Complex[Tensor, "b m"]:
    """Move the molecule's centre from `shift_angstrom` (xy) to the image centre: multiply by
    exp(+2πi s·t).
    """
    sx, sy = band.frequencies()
    phase = 2.0 * torch.pi * (shift_angstrom[:, :1] * sx + shift_angstrom[:, 1:] * sy)
    return coefficients * torch.polar(torch.ones_like(phase), phase).to(coefficients.dtype)


def shell_values(
    profile: Float[Tensor, "g shells"], group: Int[Tensor, " b"], band: FourierBand
) -> Float[Tensor, "b m"]:
    """Spread a per-shell profile of each optics group over the coefficients of images in those
    groups.
    """
    return profile.index_select(1, band.shell).index_select(
        0, group
    )  # shells first: they repeat, groups hardly
