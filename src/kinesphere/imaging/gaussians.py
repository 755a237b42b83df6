"""The renderer: images of a sum of isotropic Gaussians, exactly (reference) and by spreading and
FFT (fast).

Both return the Fourier transform of the same image: point g adds a_g · exp(−r² / 2 s_g²) / (2π
s_g²), whose integral over the plane is a_g, band-limited to the box (no aliasing, unlike a Gaussian
sampled at pixels). The fast path spreads each point onto an oversampled grid with a cubic B-spline,
takes one FFT and divides by the spline's transform (`kernels.rendering`), so its cost hardly
depends on the width of the Gaussians.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.fourier import fourier_grid
from kinesphere.kernels.rendering import RenderPlan, render_coefficients

_OVERSAMPLING = 1.5
_LARGEST_FAVOURED_POWER = 128


@dataclass(frozen=True)
class RenderGrid:
    """The Fourier half plane images are rendered on.

    Parameters
    ----------
    box
        Box size in pixels, even.
    pixel_size_angstrom
        Pixel size in Å.
    """

    box: int
    pixel_size_angstrom: float

    @property
    def spread_box(self) -> int:
        """Size of the oversampled grid points are spread on: at least 1.5 × the box, and a size
        FFTs are quick at.
        """
        smallest = math.ceil(_OVERSAMPLING * self.box)
        power_of_two = 1 << (smallest - 1).bit_length()
        # measured: up to 128 points a power of two is quicker even where it is a third larger
        return (
            power_of_two if power_of_two <= _LARGEST_FAVOURED_POWER else _next_smooth_even(smallest)
        )

    @property
    def spread_pixel_angstrom(self) -> float:
        """Pixel size of the oversampled grid in Å (same field of view)."""
        return self.box * self.pixel_size_angstrom / self.spread_box

    def plan(
        self,
        row: Int[Tensor, " m"],
        column: Int[Tensor, " m"],
        envelope: Float[Tensor, " m"] | None = None,
    ) -> RenderPlan:
        """Plan the rendering of some coefficients: see `RenderPlan.of_frequencies`."""
        return RenderPlan.of_frequencies(
            self.spread_box, self.spread_pixel_angstrom, row, column, envelope
        )


def render_exact(
    points_xy: Float[Tensor, "b p 2"],
    amplitude: Float[Tensor, " p"],
    width_angstrom: Float[Tensor, " p"] | float,
    grid: RenderGrid,
) -> Complex[Tensor, "b n half"]:
    """Render by the separable sum over points in Fourier space: slow, readable, exact; the
    reference.

    Parameters
    ----------
    points_xy
        (n_images, n_points, 2) xy in Å, image centre at zero.
    amplitude
        (n_points,) integrated intensity of each point.
    width_angstrom
        Standard deviation of the Gaussians in Å, one or one a point.
    grid
        Box and pixel size.

    Returns
    -------
    Tensor
        Complex (n_images, box, box // 2 + 1), phase origin at the image centre (cryoSPHERE eqs. 1
        and 2).
    """
    width = (
        torch.as_tensor(width_angstrom).to(points_xy).expand(points_xy.shape[1])[:, None]
    )  # (p, 1)

    def wave(coordinate: Tensor, frequency: Tensor) -> Tensor:
        damping = torch.exp(-2.0 * math.pi**2 * width**2 * frequency**2)  # (p, n)
        return torch.polar(
            damping.expand(len(points_xy), -1, -1),
            -2.0 * math.pi * coordinate[..., None] * frequency,
        )

    cycles = torch.fft.fftfreq(
        grid.box, grid.pixel_size_angstrom, dtype=points_xy.dtype, device=points_xy.device
    )
    positive = torch.fft.rfftfreq(
        grid.box, grid.pixel_size_angstrom, dtype=points_xy.dtype, device=points_xy.device
    )
    x, y = wave(points_xy[..., 0], positive), wave(points_xy[..., 1], cycles)
    return torch.einsum("p,bpi,bpj->bij", amplitude.to(x), y, x)


def render_points(
    points_xy: Float[Tensor, "b p 2"], amplitude: Float[Tensor, " p"], grid: RenderGrid
) -> Complex[Tensor, "b n half"]:
    """Render points (no width yet) on the Fourier half plane: Σ_g a_g exp(−2πi k·x_g), by spreading
    and one FFT.

    Multiply by `gaussian_envelope` for Gaussians. Points outside the box wrap around, as anything
    periodic does.

    Parameters
    ----------
    points_xy
        (n_images, n_points, 2) xy in Å, image centre at zero.
    amplitude
        (n_points,) integrated intensity of each point.
    grid
        Box and pixel size.

    Returns
    -------
    Tensor
        Complex (n_images, box, box // 2 + 1), phase origin at the image centre.
    """
    coefficients = render_coefficients(
        points_xy, amplitude, _half_plane_plan(grid, points_xy.device)
    )
    return coefficients.reshape(-1, grid.box, grid.box // 2 + 1)


@functools.lru_cache(maxsize=16)
def _half_plane_plan(grid: RenderGrid, device: torch.device) -> RenderPlan:
    ky, kx = fourier_grid(grid.box, device=device, dtype=torch.float64)
    row, column = (torch.round(k * grid.box).long().flatten() for k in (ky, kx))
    return grid.plan(row, column)


def gaussian_envelope(
    grid: RenderGrid, width_angstrom: float, device: torch.device | str = "cpu"
) -> Float[Tensor, "n half"]:
    """Fourier transform of a unit Gaussian of the given standard deviation: exp(−2π² s² |k|²),
    (box, box // 2 + 1).
    """
    ky, kx = fourier_grid(grid.box, device=torch.device(device))
    squared = (kx**2 + ky**2) / grid.pixel_size_angstrom**2
    return torch.exp(-2.0 * math.pi**2 * width_angstrom**2 * squared)


def _next_smooth_even(size: int) -> int:
    """Smallest even number of at least `size` with no prime factor above 5."""
    candidate = size + size % 2
    while True:
        rest = candidate
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
        candidate += 2
