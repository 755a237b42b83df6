"""The renderer: fast path against exact sum; exact sum against real-space Gaussians and finufft;
gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from kinesphere.fourier import centred_irfft2, half_plane_weights, radial_shell_index
from kinesphere.imaging.gaussians import (
    RenderGrid,
    gaussian_envelope,
    render_exact,
    render_points,
)

Projector = Callable[..., torch.Tensor]

PIXEL_ANGSTROM = 2.0


def amplitudes(n_points: int) -> torch.Tensor:
    return 0.5 + torch.rand(n_points)


def render_fast(
    points: torch.Tensor, amplitude: torch.Tensor, width: float, grid: RenderGrid
) -> torch.Tensor:
    return render_points(points, amplitude, grid) * gaussian_envelope(grid, width)


def relative_error(found: torch.Tensor, expected: torch.Tensor, box: int, fraction: float) -> float:
    """Root-mean-square error over that of the image, over the full plane up to a fraction of
    Nyquist, DC left out."""
    shell = radial_shell_index(box)
    weight = half_plane_weights(box) * ((shell > 0) & (shell <= fraction * box / 2))
    error, power = (
        (weight * (found - expected).abs() ** 2).sum(),
        (weight * expected.abs() ** 2).sum(),
    )
    return float((error / power).sqrt())


def error_by_shell(
    found: torch.Tensor, expected: torch.Tensor, box: int, fraction: float
) -> torch.Tensor:
    """Relative error of each shell up to a fraction of Nyquist, from shell 1."""
    shell, weight = radial_shell_index(box).flatten(), half_plane_weights(box).flatten()

    def total(values: torch.Tensor) -> torch.Tensor:
        power = (values.abs() ** 2).sum(0).flatten() * weight
        return torch.zeros(box).index_add(0, shell, power)[1 : int(fraction * box / 2) + 1]

    return (total(found - expected) / total(expected)).sqrt()


@pytest.mark.parametrize("width_px", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("n_points", [60, 1000])
@pytest.mark.parametrize("box", [32, 48, 64, 100, 128, 192, 256])
def test_fast_path_is_within_a_thousandth_of_the_exact_image(
    box: int, n_points: int, width_px: float, projected_chain: Projector
) -> None:
    grid, width = RenderGrid(box, PIXEL_ANGSTROM), width_px * PIXEL_ANGSTROM
    points, amplitude = projected_chain(1, n_points, box * PIXEL_ANGSTROM), amplitudes(n_points)
    exact = render_exact(points, amplitude, width, grid)
    fast = render_fast(points, amplitude, width, grid)
    assert relative_error(fast, exact, box, 0.8) <= 1e-3


@pytest.mark.parametrize("box", [32, 64, 128])
def test_gaussians_of_half_a_pixel_are_rendered_less_exactly(
    box: int, projected_chain: Projector
) -> None:
    """The whiter the image, the more of it lies where the spreading kernel errs most: a stated
    limit."""
    grid, width = RenderGrid(box, PIXEL_ANGSTROM), 0.5 * PIXEL_ANGSTROM
    points, amplitude = projected_chain(1, 500, box * PIXEL_ANGSTROM), amplitudes(500)
    exact = render_exact(points, amplitude, width, grid)
    assert relative_error(render_fast(points, amplitude, width, grid), exact, box, 0.8) <= 2.5e-3


@pytest.mark.parametrize("box", [32, 64, 100, 128])
def test_no_resolution_shell_is_off_by_more_than_stated(
    box: int, projected_chain: Projector
) -> None:
    """The worst shell, at 0.8 of Nyquist, where a molecule has little left: stated here so that it
    cannot grow."""
    grid = RenderGrid(box, PIXEL_ANGSTROM)
    points, amplitude = projected_chain(2, 500, box * PIXEL_ANGSTROM), amplitudes(500)
    found = render_fast(points, amplitude, 2.0, grid)
    error = error_by_shell(found, render_exact(points, amplitude, 2.0, grid), box, 0.8)
    assert error.max() < 2.2e-2
    assert error[: int(0.2 * box)].max() < 2e-3


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("box", [32, 64, 128])
def test_gradients_of_the_misfit_agree_with_the_exact_ones(
    box: int, noise: float, projected_chain: Projector
) -> None:
    """What training sees: points up to 3 Å from where they were in the image, with noise beyond the
    signal."""
    grid, n_points = RenderGrid(box, PIXEL_ANGSTROM), 214
    points, amplitude = projected_chain(2, n_points, box * PIXEL_ANGSTROM), amplitudes(n_points)
    moved = points + 3.0 * torch.randn_like(points) * torch.linspace(0, 1, n_points)[:, None]
    image = render_exact(moved, amplitude, 2.0, grid)
    image = image + noise * image.abs().mean() * torch.randn_like(image)
    weight = half_plane_weights(box) * (radial_shell_index(box) <= 0.4 * box)

    def gradient(render: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        leaf, scale = points.clone().requires_grad_(), amplitude.clone().requires_grad_()
        (weight * (render(leaf, scale, 2.0, grid) - image).abs() ** 2).sum().backward()
        assert leaf.grad is not None
        assert scale.grad is not None
        return leaf.grad, scale.grad

    (exact, exact_amplitude), (fast, fast_amplitude) = gradient(render_exact), gradient(render_fast)
    off, size = (fast - exact).norm(dim=-1), exact.norm(dim=-1)
    assert float(off.square().mean().sqrt() / size.square().mean().sqrt()) < 1e-2
    assert float((off / size).median()) < 1e-2
    assert float(off.max() / size.square().mean().sqrt()) < 4e-2
    assert float((fast_amplitude - exact_amplitude).norm() / exact_amplitude.norm()) < 1e-3


def test_both_paths_have_the_derivatives_they_claim(projected_chain: Projector) -> None:
    grid = RenderGrid(8, PIXEL_ANGSTROM)
    points = projected_chain(2, 3, 16.0).double().requires_grad_()
    amplitude = torch.rand(3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, a: torch.view_as_real(render_points(p, a, grid)), (points, amplitude)
    )
    assert torch.autograd.gradcheck(
        lambda p, a: torch.view_as_real(render_exact(p, a, 2.0, grid)), (points, amplitude)
    )


def test_points_beyond_the_edge_come_back_at_the_other() -> None:
    grid = RenderGrid(32, PIXEL_ANGSTROM)
    field = 32 * PIXEL_ANGSTROM
    points = torch.tensor([[[29.3, -11.0], [31.9, 30.0], [-32.0, 5.0]]])
    wrapped = points + field * torch.tensor([[[1.0, -1.0], [-2.0, 0.0], [1.0, 3.0]]])
    amplitude = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        render_points(wrapped, amplitude, grid),
        render_points(points, amplitude, grid),
        atol=1e-3,
        rtol=0,
    )
    # up to 0.8 of Nyquist the exact sum is periodic as well
    assert (
        relative_error(
            render_fast(wrapped, amplitude, 2.0, grid),
            render_exact(points, amplitude, 2.0, grid),
            32,
            0.8,
        )
        < 1e-3
    )


def test_image_is_the_sum_of_gaussians_in_real_space() -> None:
    """Two pixels wide and far from the edge, nothing is beyond Nyquist, and the box sees no
    neighbour."""
    box, width = 64, 2.0 * PIXEL_ANGSTROM
    points = torch.tensor([[[0.0, 0.0], [13.1, -22.7], [-8.4, 19.9]]])
    amplitude = torch.tensor([1.0, 0.5, 2.0])
    axis = (torch.arange(box) - box // 2) * PIXEL_ANGSTROM
    squared = (axis - points[0, :, :1])[:, None, :] ** 2 + (axis - points[0, :, 1:])[
        :, :, None
    ] ** 2
    density = (amplitude[:, None, None] * torch.exp(-squared / (2 * width**2))).sum(0) / (
        2 * torch.pi * width**2
    )
    grid = RenderGrid(box, PIXEL_ANGSTROM)
    for render in (render_exact, render_fast):
        # the transform's sum over pixels stands for an integral over the plane: one pixel's area is
        # the factor
        image = centred_irfft2(render(points, amplitude, width, grid), box) / PIXEL_ANGSTROM**2
        torch.testing.assert_close(image[0], density, atol=2e-4 * float(density.max()), rtol=0)


def test_every_point_may_have_its_own_width(projected_chain: Projector) -> None:
    grid = RenderGrid(32, PIXEL_ANGSTROM)
    points, amplitude = projected_chain(1, 6, 64.0), amplitudes(6)
    widths = torch.linspace(1.0, 4.0, 6)
    apart = [render_exact(points[:, [i]], amplitude[[i]], float(widths[i]), grid) for i in range(6)]
    torch.testing.assert_close(
        render_exact(points, amplitude, widths, grid), torch.stack(apart).sum(0)
    )


@pytest.mark.oracle
def test_both_paths_agree_with_finufft(projected_chain: Projector) -> None:
    finufft = pytest.importorskip("finufft")
    box = 64
    grid = RenderGrid(box, PIXEL_ANGSTROM)
    points, amplitude = projected_chain(1, 300, box * PIXEL_ANGSTROM), amplitudes(300)
    x, y = (2 * np.pi * points[0].double().numpy() / (box * PIXEL_ANGSTROM)).T
    strength = amplitude.numpy().astype(complex)
    modes = finufft.nufft2d1(
        np.ascontiguousarray(y),
        np.ascontiguousarray(x),
        strength,
        (box, box + 1),
        eps=1e-12,
        isign=-1,
    )
    theirs = torch.from_numpy(np.fft.ifftshift(modes, axes=0)[:, box // 2 :]).to(torch.complex64)[
        None
    ]
    exact = render_exact(points, amplitude, 0.0, grid)
    assert relative_error(exact, theirs, box, 1.0) < 1e-5
    envelope = gaussian_envelope(grid, 2.0)
    assert (
        relative_error(
            render_points(points, amplitude, grid) * envelope, theirs * envelope, box, 0.8
        )
        < 1e-3
    )


def test_oversampled_grid_is_large_enough_and_quick() -> None:
    for box in range(16, 400, 2):
        spread = RenderGrid(box, 1.0).spread_box
        rest = spread
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1
        assert spread % 2 == 0
        assert 1.5 * box <= spread <= 3.0 * box
    assert RenderGrid(100, 1.5).spread_pixel_angstrom == pytest.approx(1.0)
