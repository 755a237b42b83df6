"""Images compared with structures by compiled loops, against the same in torch and against finite
differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.kernels import comparison
from kinesphere.kernels.comparison import compare_pairs, inner_products

BAND = FourierBand.of_grid(RenderGrid(32, 2.0), 9)
N_IMAGES, N_STATES = 5, 3


@dataclass
class Case:
    """Structures, images, and the pairs to compare: some structures several times, one not at
    all."""

    states: Tensor
    rotation: Tensor
    gain: Tensor
    data: Tensor
    image: Tensor
    state: Tensor

    @property
    def all(self) -> tuple[Tensor, ...]:
        return self.states, self.rotation, self.gain, self.data, self.image, self.state


def make_case(dtype: torch.dtype, radius_angstrom: float, n_points: int = 70) -> Case:
    states = radius_angstrom * torch.nn.functional.normalize(
        torch.randn(N_STATES, n_points, 3, dtype=dtype), dim=2
    )
    rotation = torch.linalg.qr(torch.randn(N_IMAGES, 3, 3, dtype=dtype)).Q
    gain, data = (
        torch.rand(N_IMAGES, len(BAND), dtype=dtype) + 0.5,
        torch.randn(N_IMAGES, len(BAND), 2, dtype=dtype),
    )
    image, state = torch.tensor([0, 0, 1, 3, 4, 4, 4]), torch.tensor([1, 0, 0, 0, 1, 0, 1])
    return Case(states, rotation, gain, torch.view_as_complex(data), image, state)


def make_forward(dtype: torch.dtype, n_points: int = 70) -> ForwardModel:
    return ForwardModel(BAND, torch.rand(n_points, dtype=dtype) + 0.5, 2.5)


def arguments(case: Case, forward: ForwardModel) -> tuple[Any, ...]:
    """As the operation takes them."""
    states, rotation, *others = case.all
    return states, rotation, forward.amplitude, forward._plans, *others


# inside the box, where some rows of the grid stay empty; and beyond its edges
RADII = (12.0, 45.0)


@pytest.mark.parametrize("radius_angstrom", RADII)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_pairs_and_their_gradients_equal_the_reference(
    radius_angstrom: float, dtype: torch.dtype, tolerance: float
) -> None:
    case, forward = make_case(dtype, radius_angstrom), make_forward(dtype)
    weight = torch.randn(2, len(case.image), dtype=dtype)
    found = []
    for compare in (compare_pairs, compare_pairs.reference):
        case.states = case.states.detach().requires_grad_()
        forward.amplitude = forward.amplitude.detach().requires_grad_()
        cross, power, factor = compare(*arguments(case, forward))
        (weight[0] * cross + 0.01 * weight[1] * power).sum().backward()
        found.append(
            (cross, power, torch.view_as_real(factor), case.states.grad, forward.amplitude.grad)
        )
    for ours, theirs in zip(*found, strict=True):
        assert theirs is not None
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.detach().abs().max())
        )
    assert case.states.grad is not None
    assert float(case.states.grad[2].abs().max()) == 0  # of no pair


def test_gradients_are_those_of_finite_differences() -> None:
    case, forward = (
        make_case(torch.float64, 12.0, n_points=4),
        make_forward(torch.float64, n_points=4),
    )
    case.states.requires_grad_()
    plain, weight = forward.amplitude, torch.ones(4, dtype=torch.float64, requires_grad=True)

    def products(states: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        forward.amplitude = plain * weight
        return forward.compare(states, *case.all[1:])[:2]

    assert torch.autograd.gradcheck(products, (case.states, weight), atol=1e-4)


@pytest.mark.parametrize("radius_angstrom", RADII)
def test_every_image_is_compared_with_every_structure(radius_angstrom: float) -> None:
    case, forward = make_case(torch.float64, radius_angstrom), make_forward(torch.float64)
    given = arguments(case, forward)[:6]
    found, expected = inner_products(*given), inner_products.reference(*given)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == (N_IMAGES, N_STATES)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_threads_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case, forward = (
        make_case(torch.float32, 12.0, n_points=3000),
        make_forward(torch.float32, n_points=3000),
    )
    case.states.requires_grad_()

    def results() -> tuple[Tensor, ...]:
        cross, power, factor = forward.compare(*case.all)
        (gradient,) = torch.autograd.grad((cross - 0.5 * power).sum(), case.states)
        return (
            cross.detach(),
            power.detach(),
            factor,
            gradient,
            *forward.inner_products(*case.all[:4]),
        )

    alone = results()
    torch.set_num_threads(2)
    try:
        together = results()
    finally:
        torch.set_num_threads(1)
    monkeypatch.setattr(comparison, "_GRID_VALUES_AT_ONCE", 1)
    monkeypatch.setattr(comparison, "_IMAGES_AT_ONCE", 2)
    one_by_one = results()
    for first, second, third in zip(alone, together, one_by_one, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6 * float(first.abs().max()))
        torch.testing.assert_close(first, third, rtol=1e-6, atol=1e-6 * float(first.abs().max()))


def test_a_position_that_is_no_number_spoils_its_own_pairs_only() -> None:
    case, forward = make_case(torch.float32, 12.0), make_forward(torch.float32)
    case.states[1, 3] = torch.nan
    cross, power, _ = forward.compare(*case.all)
    assert torch.equal(cross.isnan(), case.state == 1)
    assert torch.equal(power.isnan(), case.state == 1)


def test_points_of_several_widths_are_compared_too() -> None:
    """Which the compiled loops do not do: each pair by hand."""
    case = make_case(torch.float64, 12.0)
    amplitude = torch.rand(2, 70, dtype=torch.float64)
    forward = ForwardModel(BAND, amplitude, (2.5, 5.0))
    cross, power, factor = forward.compare(*case.all)
    for q, (i, k) in enumerate(zip(case.image, case.state, strict=True)):
        alone = forward.structure_factor((case.states[k] @ case.rotation[i])[None, :, :2])[0]
        model = case.gain[i] * alone
        torch.testing.assert_close(factor[q], alone)
        torch.testing.assert_close(cross[q], (case.data[i].conj() * model).real.sum())
        torch.testing.assert_close(power[q], model.abs().square().sum())
