"""Spreading by Triton against its reference: on a GPU where there is one, else in Triton's
interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kinesphere.imaging.gaussians import RenderGrid, render_points
from kinesphere.kernels import rendering
from kinesphere.kernels.dispatch import checked_kernels
from kinesphere.kernels.spreading import gather_gradient, spread

MODULE = "kinesphere.kernels.spreading_triton"
REPOSITORY = Path(__file__).resolve().parents[2]
TOLERANCE = 2e-6  # values and weights are of order one and of single precision
ONE_TILE, TWO_TILES, THREE_TILES = 14, 20, 33


@pytest.fixture
def kernels(triton_device: torch.device) -> ModuleType:
    found = checked_kernels(MODULE, triton_device)
    assert found is not None
    return found


def points(size: int, n_points: int = 45) -> torch.Tensor:
    """Points inside, across the edges, on grid points, and more than a box away; neither blocks nor
    chunks are full."""
    scattered = 0.7 * size * torch.randn(3, n_points, 2)
    scattered[:, 0] = torch.tensor([3.0, size - 1.0])
    return scattered


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.cpu() - expected).abs().max())


@pytest.mark.oracle
@pytest.mark.parametrize("size", [ONE_TILE, TWO_TILES, THREE_TILES])
def test_spreading_equals_its_reference(
    kernels: ModuleType, triton_device: torch.device, size: int
) -> None:
    where, amplitude = points(size), torch.linspace(0.5, 2.0, 45)
    found = kernels.spread(where.to(triton_device), amplitude.to(triton_device), size)
    assert difference(found, spread.reference(where, amplitude, size)) < TOLERANCE
    torch.testing.assert_close(found.sum((1, 2)).cpu(), amplitude.sum().expand(3))


@pytest.mark.oracle
def test_taps_across_any_edges_of_tiles_are_all_counted(
    kernels: ModuleType, triton_device: torch.device
) -> None:
    """One point an image, so that all tiles but one to four are empty."""
    along = torch.arange(THREE_TILES) + 0.3
    where = torch.stack([along, (7.0 * along) % THREE_TILES], 1)[:, None]
    found = kernels.spread(
        where.to(triton_device), torch.ones(1, device=triton_device), THREE_TILES
    )
    assert difference(found, spread.reference(where, torch.ones(1), THREE_TILES)) < TOLERANCE


@pytest.mark.oracle
def test_many_points_in_one_place_and_none_elsewhere(
    kernels: ModuleType, triton_device: torch.device
) -> None:
    n_points = 150
    where = torch.tensor([15.6, 16.2]) + 0.4 * torch.rand(1, n_points, 2)
    amplitude = torch.ones(n_points)
    found = kernels.spread(where.to(triton_device), amplitude.to(triton_device), THREE_TILES)
    assert (
        difference(found, spread.reference(where, amplitude, THREE_TILES))
        < TOLERANCE * n_points / 4
    )
    assert torch.count_nonzero(found) <= 25


@pytest.mark.oracle
@pytest.mark.parametrize("size", [ONE_TILE, THREE_TILES])
def test_gradient_is_that_of_the_reference(
    kernels: ModuleType, triton_device: torch.device, size: int
) -> None:
    """By automatic differentiation in double precision, and by the reference in torch."""
    where, amplitude = points(size), torch.linspace(0.5, 2.0, 45)
    gradient = torch.randn(3, size, size)
    found = kernels.gather_gradient(
        *(tensor.to(triton_device) for tensor in (where, amplitude, gradient))
    )
    exact_where, exact_amplitude = (
        where.double().requires_grad_(),
        amplitude.double().requires_grad_(),
    )
    (spread.reference(exact_where, exact_amplitude, size) * gradient).sum().backward()
    assert difference(found[0], exact_where.grad) < 10 * TOLERANCE
    assert difference(found[1].sum(0), exact_amplitude.grad) < 10 * TOLERANCE
    for one, other in zip(
        found, gather_gradient.reference(where, amplitude, gradient), strict=True
    ):
        assert difference(one, other) < 10 * TOLERANCE


@pytest.mark.oracle
def test_rendering_and_its_gradient_stay_the_same(
    kernels: ModuleType, triton_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rendered(device: torch.device) -> tuple[torch.Tensor, ...]:
        where = points(20, 30).to(device).requires_grad_()
        amplitude = torch.linspace(0.5, 2.0, 30, device=device).requires_grad_()
        torch.manual_seed(1)
        image = render_points(where, amplitude, RenderGrid(16, 2.0))
        (image.abs() ** 2 * torch.rand(16, 9).to(device)).sum().backward()
        return image.detach(), where.grad, amplitude.grad

    torch.manual_seed(0)
    expected = rendered(torch.device("cpu"))
    monkeypatch.setattr(rendering, "spread", kernels.spread)
    monkeypatch.setattr(rendering, "gather_gradient", kernels.gather_gradient)
    torch.manual_seed(0)
    found = rendered(triton_device)
    for one, other in zip(found, expected, strict=True):
        assert difference(one, other) < 1e-5 * float(other.abs().max())


@pytest.mark.oracle
def test_the_same_points_give_the_same_grid_to_the_last_bit(
    kernels: ModuleType, triton_device: torch.device
) -> None:
    where, amplitude = points(TWO_TILES, 200).to(triton_device), torch.rand(200).to(triton_device)
    assert torch.equal(
        kernels.spread(where, amplitude, TWO_TILES), kernels.spread(where, amplitude, TWO_TILES)
    )


@pytest.mark.oracle
def test_positions_that_are_no_numbers_stay_inside_the_grid_and_show(
    kernels: ModuleType, triton_device: torch.device
) -> None:
    where = points(TWO_TILES)
    where[1, 5] = torch.nan
    found = kernels.spread(where.to(triton_device), torch.ones(45, device=triton_device), TWO_TILES)
    assert found[1].isnan().any()
    assert found[[0, 2]].isfinite().all()


@pytest.mark.oracle
def test_grids_smaller_than_the_kernel_and_no_points_at_all(
    kernels: ModuleType, triton_device: torch.device
) -> None:
    where, amplitude = points(TWO_TILES), torch.ones(45)
    tiny = kernels.spread(where.to(triton_device), amplitude.to(triton_device), 3)
    assert difference(tiny, spread.reference(where, amplitude, 3)) < TOLERANCE * 45
    nothing = kernels.spread(
        where[:, :0].to(triton_device), amplitude[:0].to(triton_device), TWO_TILES
    )
    assert nothing.shape == (3, TWO_TILES, TWO_TILES)
    assert not nothing.any()


@pytest.mark.oracle
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: nothing to wait for")
def test_nothing_waits_for_the_gpu(kernels: ModuleType, triton_device: torch.device) -> None:
    where, amplitude = points(THREE_TILES).to(triton_device), torch.ones(45, device=triton_device)
    gradient = torch.randn(3, THREE_TILES, THREE_TILES, device=triton_device)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = kernels.spread(where, amplitude, THREE_TILES)
        by_position, _ = kernels.gather_gradient(where, amplitude, gradient)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert found.isfinite().all()
    assert by_position.isfinite().all()


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.usefixtures("triton_device")
def test_kernels_compile_for_gpus_without_atomic_operations(tmp_path: Path) -> None:
    """To machine code, for Ampere and Hopper, which needs no GPU."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]
    )
    command = [sys.executable, str(REPOSITORY / "tests" / "compile_triton.py"), "80", "90"]
    printed = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    made = json.loads(printed)
    assert len(made) == 14
    assert all(kernel["machine_code_bytes"] > 0 for kernel in made)
    assert [kernel for kernel in made if kernel["atomics"]] == []
