"""The forward model: the renderer on a band, shifts undone with the right sign, the CTF of each
image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kinesphere.fourier import centred_rfft2, shift_fourier
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters, evaluate_ctf
from kinesphere.imaging.forward import ForwardModel, recentre, shell_values
from kinesphere.imaging.gaussians import RenderGrid, render_exact

Projector = Callable[..., torch.Tensor]

GRID = RenderGrid(64, 1.5)
BAND = FourierBand.of_grid(GRID, 20)


def blob(x_angstrom: float, y_angstrom: float, width_angstrom: float = 4.0) -> torch.Tensor:
    """A Gaussian at a place in the image, drawn pixel by pixel."""
    axis = (torch.arange(64) - 32) * GRID.pixel_size_angstrom
    squared = (axis[None, :] - x_angstrom) ** 2 + (axis[:, None] - y_angstrom) ** 2
    return torch.exp(-squared / (2 * width_angstrom**2))


def test_structure_factor_is_the_exact_rendering_of_the_whole_box(
    projected_chain: Projector,
) -> None:
    points, amplitude = projected_chain(5, 300, 96.0), torch.rand(300) + 0.5
    exact = BAND.select(render_exact(points, amplitude, 2.5, GRID))
    found = ForwardModel(BAND, amplitude, 2.5).structure_factor(points)
    assert float((found - exact).norm() / exact.norm()) < 1e-3


def test_classes_of_width_add_up(projected_chain: Projector) -> None:
    """Each point is a mixture of a sharp and a wide Gaussian, in shares of its own (DynaMight eq.
    8)."""
    points, share = projected_chain(3, 200, 96.0), torch.rand(200)
    amplitude = torch.stack([share, 1.0 - share])
    exact = BAND.select(
        render_exact(points, amplitude[0], 1.5, GRID)
        + render_exact(points, amplitude[1], 6.0, GRID)
    )
    forward = ForwardModel(BAND, amplitude, (1.5, 6.0))
    found = forward.structure_factor(points)
    assert float((found - exact).norm() / exact.norm()) < 2e-3
    gain, data = torch.rand(3, len(BAND)), torch.randn(3, len(BAND), dtype=torch.complex64)
    states = torch.cat([points, 10.0 * torch.randn(3, 200, 1)], dim=2)
    cross, power = forward.inner_products(states, torch.eye(3).expand(3, 3, 3), gain, data)
    model = gain[:, None] * exact  # images × structures
    torch.testing.assert_close(
        cross, (data.conj()[:, None] * model).real.sum(2), rtol=1e-2, atol=1.0
    )
    torch.testing.assert_close(power, model.abs().square().sum(2), rtol=1e-2, atol=0)


@pytest.mark.parametrize("classes", [1, 2])
def test_weights_multiply_amplitudes_and_carry_gradients(
    projected_chain: Projector, classes: int
) -> None:
    points, amplitude = (
        projected_chain(2, 50, 96.0).double(),
        torch.rand(classes, 50).double() + 0.5,
    )
    width = (2.5, 4.0)[:classes]
    weight = (torch.rand(50).double() + 0.5).requires_grad_()
    plain = ForwardModel(BAND, amplitude, width)
    found = plain.weighted(weight).structure_factor(points)
    torch.testing.assert_close(
        found, ForwardModel(BAND, amplitude * weight.detach(), width).structure_factor(points)
    )
    target = torch.randn(found.shape, dtype=found.dtype)
    assert torch.autograd.gradcheck(
        lambda w: (plain.weighted(w).structure_factor(points) * target.conj()).real.sum(),
        (weight,),
        atol=1e-4,
    )
    assert plain.weighted(None) is plain


def test_large_batches_are_rendered_as_small_ones(projected_chain: Projector) -> None:
    """Rendering in chunks is bookkeeping: 60 images of 300 points are two chunks."""
    points, amplitude = projected_chain(60, 300, 96.0), torch.rand(300)
    forward = ForwardModel(BAND, amplitude, 2.5)
    apart = torch.cat([forward.structure_factor(points[[i]]) for i in range(60)])
    torch.testing.assert_close(forward.structure_factor(points), apart, atol=1e-3, rtol=1e-4)


def test_coarse_model_agrees_with_the_fine_one_on_its_band(projected_chain: Projector) -> None:
    points, amplitude = projected_chain(2, 300, 96.0), torch.rand(300)
    fine = ForwardModel(BAND, amplitude, 2.5)
    coarse = fine.coarser(8)
    expected = fine.structure_factor(points)[:, : len(coarse.band)]
    assert float((coarse.structure_factor(points) - expected).norm() / expected.norm()) < 2e-3
    assert coarse.grid.box < fine.grid.box


@pytest.mark.parametrize("shift", [(7.3, 0.0), (0.0, -5.1), (3.2, 8.8)])
def test_recentring_brings_a_displaced_molecule_to_the_centre(shift: tuple[float, float]) -> None:
    moved = BAND.select(centred_rfft2(blob(*shift)))[None]
    centred = recentre(moved, torch.tensor([shift]), BAND)
    expected = BAND.select(centred_rfft2(blob(0.0, 0.0)))[None]
    torch.testing.assert_close(centred, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


def test_recentring_undoes_shifting_the_image() -> None:
    image = centred_rfft2(torch.randn(4, 64, 64))
    shift = 6.0 * torch.randn(4, 2)
    moved = shift_fourier(image, shift / GRID.pixel_size_angstrom)
    torch.testing.assert_close(
        recentre(BAND.select(moved), shift, BAND), BAND.select(image), atol=1e-2, rtol=1e-3
    )


def test_transfer_is_the_ctf_of_the_box_on_the_band() -> None:
    ones = torch.ones(2)
    ctf = CtfParameters(
        defocus_u_angstrom=torch.tensor([1.8e4, 9e3]),
        defocus_v_angstrom=torch.tensor([1.6e4, 8e3]),
        defocus_angle_radians=torch.tensor([0.3, -1.0]),
        phase_shift_radians=0.4 * ones,
        voltage_kv=torch.tensor([300.0, 200.0]),
        spherical_aberration_mm=2.7 * ones,
        amplitude_contrast=0.1 * ones,
        b_factor_angstrom2=20 * ones,
        scale=ones,
    )
    found = ForwardModel(BAND, torch.ones(3), 2.0).transfer(ctf)
    expected = BAND.select(evaluate_ctf(ctf, GRID.box, GRID.pixel_size_angstrom))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_profiles_are_looked_up_by_group_and_shell() -> None:
    profile = torch.arange(2.0 * (BAND.n_shells + 1)).reshape(2, -1)
    values = shell_values(profile, torch.tensor([1, 0, 1]), BAND)
    assert values.shape == (3, len(BAND))
    torch.testing.assert_close(values[0], BAND.n_shells + 1.0 + BAND.shell)
    torch.testing.assert_close(values[1], BAND.shell.float())
