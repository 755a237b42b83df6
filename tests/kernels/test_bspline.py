"""The table of the cubic B-spline against scipy's, and all else that weighs taps against the
table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline, PPoly

from kinesphere.kernels import bspline

T = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)[:-1]


def test_the_table_is_that_of_scipy() -> None:
    spline = PPoly.from_spline(BSpline.basis_element(np.arange(5.0), extrapolate=False))
    pieces = spline.c[::-1, 3:-3]  # (power, piece), the farther tap in the later piece
    np.testing.assert_allclose(np.array(bspline.WEIGHTS), pieces[:, ::-1], atol=1e-15)


def test_weights_add_up_and_are_those_known() -> None:
    weights = bspline.weights(torch.tensor([0.0, 0.25, 0.5]))
    assert torch.allclose(weights.sum(-1), torch.ones(3))
    assert torch.allclose(weights[0], torch.tensor([1 / 6, 2 / 3, 1 / 6, 0.0]), atol=1e-6)
    assert torch.allclose(weights[2], torch.tensor([1 / 48, 23 / 48, 23 / 48, 1 / 48]), atol=1e-6)


def test_slopes_are_the_derivatives_of_the_weights() -> None:
    step = 1e-6
    differences = (bspline.weights(T + step) - bspline.weights(T - step)) / (2 * step)
    torch.testing.assert_close(bspline.slopes(T), differences, rtol=0, atol=1e-8)


def test_the_compiled_weights_of_one_point_are_those_of_the_table() -> None:
    compiled = [bspline.weights_of_one(np.float32(t)) for t in T.tolist()]
    np.testing.assert_allclose(np.array(compiled), bspline.weights(T).numpy(), atol=2e-7)


@pytest.mark.parametrize("frequency", [0.0, 0.1, 0.31, 0.5])
def test_the_transform_is_that_of_the_spline(frequency: float) -> None:
    """By the trapezium rule, exact to rounding but for the end points' kinks."""
    x = np.linspace(-2.0, 2.0, 4001)
    spline = BSpline.basis_element(np.arange(5.0) - 2.0, extrapolate=False)
    integral = np.trapezoid(np.nan_to_num(spline(x)) * np.cos(2 * np.pi * frequency * x), x)
    assert bspline.transform(np.array([frequency]))[0] == pytest.approx(integral, abs=1e-6)
