"""The B-spline in Triton against the table: on a GPU, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from kinesphere.kernels import bspline


@pytest.mark.oracle
def test_weights_and_slopes_are_those_of_the_table(triton_device: torch.device) -> None:
    """A single point of amplitude 1 between grid points leaves its weights on the grid; the
    gradient reads slopes."""
    from kinesphere.kernels import spreading_triton

    x, y = 5.3, 9.8
    point = torch.tensor([[[x, y]]], device=triton_device)
    one = torch.ones(1, device=triton_device)
    grid = spreading_triton.spread(point, one, 16)[0].cpu()
    past = torch.tensor([x - 5, y - 9])
    weight_x, weight_y = bspline.weights(past)
    torch.testing.assert_close(grid[8:12, 4:8], torch.outer(weight_y, weight_x), rtol=0, atol=1e-6)
    column = torch.arange(16.0).repeat(16, 1)[None].to(triton_device)
    gradient, value = spreading_triton.gather_gradient(point, one, column)
    # the spline reproduces straight lines: value x, slope 1 along x and none along y
    assert value.item() == pytest.approx(x, abs=1e-5)
    assert gradient[0, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-5)
    slope_x, _ = bspline.slopes(past)
    assert float((slope_x * torch.arange(4.0, 8.0)).sum()) == pytest.approx(1.0, abs=1e-5)
