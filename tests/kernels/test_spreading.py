"""The compiled inner loops against their references in torch, and those against automatic
differentiation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kinesphere.kernels.spreading import (
    gather_gradient,
    spread,
)

SIZE = 20
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def points(dtype: torch.dtype, n_images: int = 3, n_points: int = 40) -> torch.Tensor:
    """Points inside, across the edges, on grid points, and more than a box away."""
    scattered = 15.0 * torch.randn(
        n_images, n_points, 2, dtype=dtype, generator=torch.Generator().manual_seed(0)
    )
    scattered[:, 0] = torch.tensor([3.0, SIZE - 1.0])
    return scattered


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_spreading_equals_its_reference(dtype: torch.dtype) -> None:
    where, amplitude = points(dtype), torch.linspace(0.5, 2.0, 40, dtype=dtype)
    found, expected = spread(where, amplitude, SIZE), spread.reference(where, amplitude, SIZE)
    assert (found - expected).abs().max() < TOLERANCE[dtype]
    torch.testing.assert_close(found.sum((1, 2)), amplitude.sum().expand(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_gradient_equals_its_reference(dtype: torch.dtype) -> None:
    where, amplitude = points(dtype), torch.linspace(0.5, 2.0, 40, dtype=dtype)
    gradient = torch.randn(3, SIZE, SIZE, dtype=dtype)
    found = gather_gradient(where, amplitude, gradient)
    expected = gather_gradient.reference(where, amplitude, gradient)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 10 * TOLERANCE[dtype]


def test_gradient_is_that_of_automatic_differentiation() -> None:
    where, amplitude = (
        points(torch.float64).requires_grad_(),
        torch.linspace(0.5, 2.0, 40, dtype=torch.float64),
    )
    amplitude.requires_grad_()
    gradient = torch.randn(3, SIZE, SIZE, dtype=torch.float64)
    (spread.reference(where, amplitude, SIZE) * gradient).sum().backward()
    by_position, by_amplitude = gather_gradient(where.detach(), amplitude.detach(), gradient)
    torch.testing.assert_close(by_position, where.grad)
    torch.testing.assert_close(by_amplitude.sum(0), amplitude.grad)


@pytest.mark.usefixtures("two_threads")
def test_threads_change_nothing() -> None:
    where, amplitude = points(torch.float32, n_images=33, n_points=400), torch.ones(400)
    page_by_page = torch.cat([spread(page[None], amplitude, SIZE) for page in where])
    assert torch.equal(spread(where, amplitude, SIZE), page_by_page)


def test_positions_that_are_no_numbers_stay_inside_the_grid_and_show() -> None:
    where = points(torch.float32)
    where[1, 5] = torch.nan
    found = spread(where, torch.ones(40), SIZE)
    assert found[1].isnan().any()
    assert found[[0, 2]].isfinite().all()
