"""The renderer: images of a sum of isotropic Gaussians, exactly (reference) and by spreading and
FFT (fast).

Both return the Fourier transform of the same image: point g adds a_g · exp(−r² / 2 s_g²) / (2π
s_g²), whose integral over the plane is a_g, band-limited to the box (no aliasing, unlike a Gaussian
sampled at pixels). The fast path spreads each point onto an oversampled grid with a cubic B-spline,
takes one FFT and divides by the spline's transform: a type-1 non-uniform FFT (Dutt & Rokhlin 1993;
Barnett, Magland & af Klinteberg 2019, doi:10.1137/18M120885X), so its cost hardly depends on the
width of the Gaussians.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from kinesphere.fourier import fourier_grid
from kinesphere.kernels.spreading import gather_gradient, kernel_transform, spread

_OVERSAMPLING = 1.5
_LARGEST_FAVOURED_POWER = 128
_GRID_VALUES_AT_ONCE = (
    1 << 17
)  # half a megabyte: stays in a core's cache from spreading to picking coefficients


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


@dataclass(frozen=True, eq=False)
class RenderPlan:
    """Which Fourier coefficients to render, and what that takes: made once, used for every image.

    Parameters
    ----------
    grid
        Box and pixel size.
    index
        (m,) where the coefficients are in the flattened transform of the spread grid, columns
        first.
    factor
        (m,) real factor on each: one over the spline's transform, times an envelope if there is
        one.
    repeated
        (m,) whether the coefficient stands for its conjugate in the other half plane too (kx > 0).
    n_columns
        Columns kx = 0 … n_columns − 1 that hold all coefficients: the others are not transformed
        along y.
    """

    grid: RenderGrid
    index: Int[Tensor, " m"]
    factor: Float[Tensor, " m"]
    repeated: Bool[Tensor, " m"]
    n_columns: int

    @functools.cached_property
    def runs(self) -> tuple[Int[Tensor, " m"], Int[Tensor, "r two"]]:
        """Order of the coefficients by where they are, and the stretches without gaps then: (first,
        number) of each.
        """
        order = torch.argsort(self.index)
        place = self.index[order]
        starts = torch.cat(
            [torch.ones(1, dtype=torch.bool), place[1:] != place[:-1] + 1]
        ).nonzero()[:, 0]
        lengths = torch.diff(starts, append=torch.tensor([len(place)]))
        return order, torch.stack([place[starts], lengths], 1)

    @classmethod
    def of_frequencies(
        cls,
        grid: RenderGrid,
        row: Int[Tensor, " m"],
        column: Int[Tensor, " m"],
        envelope: Float[Tensor, " m"] | None = None,
    ) -> RenderPlan:
        """Plan for integer frequencies ky, kx ≥ 0 in cycles per field of view, below Nyquist of the
        spread grid.
        """
        size = grid.spread_box
        spline = torch.as_tensor(kernel_transform(np.fft.fftfreq(size)), device=row.device)
        factor = 1.0 / (
            spline[row] * spline[column]
        )  # a negative row counts from the end, as frequencies do
        if envelope is not None:
            factor = factor * envelope
        return cls(
            grid,
            column * size + torch.remainder(row, size),
            factor,
            column > 0,
            int(column.max()) + 1,
        )


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


def render_coefficients(
    points_xy: Float[Tensor, "b p 2"], amplitude: Float[Tensor, " p"], plan: RenderPlan
) -> Complex[Tensor, "b m"]:
    """Render points at the Fourier coefficients of a plan only; otherwise as `render_points`.

    Parameters
    ----------
    points_xy
        (n_images, n_points, 2) xy in Å, image centre at zero.
    amplitude
        (n_points,) integrated intensity of each point.
    plan
        The coefficients.

    Returns
    -------
    Tensor
        Complex (n_images, m).
    """
    points_px = points_xy / plan.grid.spread_pixel_angstrom
    rendered: Tensor = _Render.apply(points_px, amplitude.to(points_xy), plan)
    return rendered


@functools.lru_cache(maxsize=16)
def _half_plane_plan(grid: RenderGrid, device: torch.device) -> RenderPlan:
    ky, kx = fourier_grid(grid.box, device=device, dtype=torch.float64)
    row, column = (torch.round(k * grid.box).long().flatten() for k in (ky, kx))
    return RenderPlan.of_frequencies(grid, row, column)


def gaussian_envelope(
    grid: RenderGrid, width_angstrom: float, device: torch.device | str = "cpu"
) -> Float[Tensor, "n half"]:
    """Fourier transform of a unit Gaussian of the given standard deviation: exp(−2π² s² |k|²),
    (box, box // 2 + 1).
    """
    ky, kx = fourier_grid(grid.box, device=torch.device(device))
    squared = (kx**2 + ky**2) / grid.pixel_size_angstrom**2
    return torch.exp(-2.0 * math.pi**2 * width_angstrom**2 * squared)


class _Render(torch.autograd.Function):
    """Spread, transform, pick coefficients; and the exact adjoint, which recomputes the footprints
    to save memory.

    One function rather than a chain of differentiable ones: the gradient of a real transform is
    then a real transform, and images are worked through in blocks that stay in the cache, below the
    size at which memory goes back to the system (3 times faster).
    """

    @staticmethod
    def forward(ctx: Any, points_px: Tensor, amplitude: Tensor, plan: RenderPlan) -> Tensor:
        ctx.save_for_backward(points_px, amplitude)
        ctx.plan = plan
        factor = plan.factor.to(points_px.dtype)
        rendered = [
            _transform(block, amplitude, plan).flatten(1).index_select(1, plan.index) * factor
            for block in _blocks(points_px, plan.grid.spread_box)
        ]
        return torch.cat(rendered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        points_px, amplitude = ctx.saved_tensors
        plan: RenderPlan = ctx.plan
        # a coefficient with kx > 0 is twice in the inverse of a real transform, once in the sum
        # over half the plane
        factor = plan.factor.to(points_px.dtype) * torch.where(plan.repeated, 0.5, 1.0)
        size = plan.grid.spread_box
        found = [
            gather_gradient(block, amplitude, _adjoint_transform(part * factor, plan))
            for block, part in zip(
                _blocks(points_px, size), _blocks(gradients[0], size), strict=True
            )
        ]
        grad_amplitude = (
            torch.cat([amount for _, amount in found]).sum(0) if ctx.needs_input_grad[1] else None
        )
        return torch.cat([position for position, _ in found]), grad_amplitude, None


def _blocks(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Divide what has one row an image into blocks whose grids fit the cache; a GPU takes all at
    once.
    """
    at_once = (
        max(1, _GRID_VALUES_AT_ONCE // size**2)
        if values.device.type == "cpu"
        else max(len(values), 1)
    )
    return values.split(at_once)


def _transform(points_px: Tensor, amplitude: Tensor, plan: RenderPlan) -> Tensor:
    """Transform of spread points (b, n_columns, size), indexed [kx, ky]; the spline's transform is
    still on it.
    """
    rows = torch.fft.rfft(spread(points_px, amplitude, plan.grid.spread_box))[..., : plan.n_columns]
    return torch.fft.fft(rows.transpose(1, 2).contiguous())  # contiguous is 3 times quicker


def _adjoint_transform(gradient: Tensor, plan: RenderPlan) -> Tensor:
    """Gradient with respect to the spread grid from that with respect to the coefficients (b,
    m).
    """
    size = plan.grid.spread_box
    columns = gradient.new_zeros(len(gradient), plan.n_columns * size).index_copy_(
        1, plan.index, gradient
    )
    rows = (
        torch.fft.ifft(columns.reshape(-1, plan.n_columns, size), norm="forward")
        .transpose(1, 2)
        .contiguous()
    )
    return torch.fft.irfft(rows, n=size, norm="forward")


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
