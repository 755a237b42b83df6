"""Coefficients of points: those chosen, their derivatives, classes, and blocks of images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kinesphere.imaging.gaussians import RenderGrid, render_points
from kinesphere.kernels import rendering
from kinesphere.kernels.rendering import RenderPlan, render_coefficients, structure_factor

Projector = Callable[..., torch.Tensor]


def test_chosen_coefficients_are_those_of_the_half_plane_with_their_derivatives(
    projected_chain: Projector,
) -> None:
    grid, envelope = (
        RenderGrid(16, 2.0),
        torch.tensor([1.0, 0.5, 0.25, 2.0], dtype=torch.float64),
    )
    row, column = torch.tensor([0, -3, 5, 2]), torch.tensor([1, 0, 4, 7])
    points = projected_chain(2, 4, 16.0).double().requires_grad_()
    amplitude = torch.rand(4, dtype=torch.float64).requires_grad_()
    plan = grid.plan(row, column, envelope)
    whole = render_points(points, amplitude, grid)
    torch.testing.assert_close(
        render_coefficients(points, amplitude, plan), whole[:, row, column] * envelope
    )
    assert torch.autograd.gradcheck(
        lambda p, a: torch.view_as_real(render_coefficients(p, a, plan)), (points, amplitude)
    )


def test_classes_add_up(projected_chain: Projector) -> None:
    points, amplitude = projected_chain(2, 5, 16.0), torch.rand(2, 5)
    row, column = torch.tensor([0, -3, 5]), torch.tensor([1, 0, 4])
    plans = (
        RenderGrid(16, 2.0).plan(row, column),
        RenderGrid(16, 2.0).plan(row, column, row + 0.5),
    )
    apart = [render_coefficients(points, a, p) for a, p in zip(amplitude, plans, strict=True)]
    torch.testing.assert_close(structure_factor(points, amplitude, plans), apart[0] + apart[1])


def test_stretches_hold_every_coefficient_once() -> None:
    row, column = torch.tensor([3, 4, 0, 5, 1]), torch.tensor([1, 1, 0, 1, 0])
    plan = RenderPlan.of_frequencies(16, 2.0, row, column)
    order, runs = plan.runs
    assert plan.index[order].tolist() == [0, 1, 19, 20, 21]
    assert runs.tolist() == [[0, 2], [19, 3]]


def test_blocks_of_images_change_nothing(
    projected_chain: Projector, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, grid = projected_chain(5, 30, 32.0).requires_grad_(), RenderGrid(16, 2.0)

    def rendered() -> tuple[torch.Tensor, torch.Tensor]:
        image = render_points(points, torch.ones(30), grid)
        (gradient,) = torch.autograd.grad(image.abs().square().sum(), points)
        return image.detach(), gradient

    together = rendered()
    monkeypatch.setattr(rendering, "_GRID_VALUES_AT_ONCE", 1)
    for one_by_one, at_once in zip(rendered(), together, strict=True):
        assert torch.equal(one_by_one, at_once)
