"""Sixteen grid values around a point as vector instructions, against the B-spline's table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinesphere.kernels import bspline
from kinesphere.kernels.compiled import compiled
from kinesphere.kernels.taps import add_taps, read_taps

WIDTH, FIRST = 9, 2 * 9 + 3  # the first tap at row 2, column 3
TX, TY = 0.3, 0.85


@compiled
def add(grid, tx, ty, amount):  # noqa: ANN001, ANN201 - numba finds the types
    add_taps(grid, FIRST, WIDTH, tx, ty, amount)


@compiled
def read(grid, tx, ty):  # noqa: ANN001, ANN201 - numba finds the types
    return read_taps(grid, FIRST, WIDTH, tx, ty)


def patch(dtype: type, slope_x: int = 0, slope_y: int = 0) -> np.ndarray:
    """Weights, or slopes, of the four by four taps."""
    t = torch.tensor([TX, TY], dtype=torch.float64)
    weights, slopes = bspline.weights(t), bspline.slopes(t)
    along_x, along_y = (slopes if slope_x else weights)[0], (slopes if slope_y else weights)[1]
    return torch.outer(along_y, along_x).numpy().astype(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_taps_are_added_in_their_places_and_nowhere_else(dtype: type, tolerance: float) -> None:
    grid = np.ones((8, WIDTH), dtype)
    add(grid.reshape(-1), dtype(TX), dtype(TY), dtype(2.5))
    expected = np.ones_like(grid)
    expected[2:6, 3:7] += dtype(2.5) * patch(dtype)
    np.testing.assert_allclose(grid, expected, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_taps_are_read_with_their_slopes(dtype: type, tolerance: float) -> None:
    grid = np.random.default_rng(0).normal(size=(8, WIDTH)).astype(dtype)
    found = read(grid.reshape(-1), dtype(TX), dtype(TY))
    values = grid[2:6, 3:7]
    kinds = (patch(dtype), patch(dtype, slope_x=1), patch(dtype, slope_y=1))
    np.testing.assert_allclose(found, [(kind * values).sum() for kind in kinds], atol=tolerance)
