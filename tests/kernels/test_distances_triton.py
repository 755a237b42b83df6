"""The energy of changed distances by Triton against its reference: on a GPU, else in Triton's
interpreter."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from kinesphere.kernels.dispatch import checked_kernels
from kinesphere.kernels.distances import pair_distances, strain_energy

TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}  # single precision, sums of a few hundred pairs


@pytest.fixture
def kernels(triton_device: torch.device) -> ModuleType:
    found = checked_kernels("kinesphere.kernels.distances_triton", triton_device)
    assert found is not None
    return found


def structures(n_points: int = 150) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """More than a block of points, one with many pairs, one with none; changes within Huber's 0.3 Å
    and beyond."""
    points = 5.0 * torch.randn(3, n_points, 3)
    pairs = torch.stack(
        [torch.randint(0, n_points - 1, (200,)), torch.randint(0, n_points - 1, (200,))], 1
    )
    pairs[:20, 0] = 7
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs != 11).all(1)]
    return (
        points,
        pairs,
        pair_distances.reference(points[:1], pairs)[0] + 0.4 * torch.randn(len(pairs)),
    )


@pytest.mark.oracle
@pytest.mark.parametrize("charged_again", [False, True])
def test_energy_and_gradient_are_those_of_the_reference(
    kernels: ModuleType,
    triton_device: torch.device,
    charged_again: bool,  # noqa: FBT001
) -> None:
    points, pairs, kept = structures()
    nearest = kept.clamp_max(6.0) if charged_again else None
    there = [None if array is None else array.to(triton_device) for array in (pairs, kept, nearest)]
    exact, found = points.double().requires_grad_(), points.to(triton_device).requires_grad_()
    fast = kernels.strain_energy(found, *there)
    slow = strain_energy.reference(
        exact, pairs, kept.double(), None if nearest is None else nearest.double()
    )
    torch.testing.assert_close(fast.cpu().double(), slow, **TOLERANCE)
    weight = torch.tensor([1.0, -2.0, 0.5])
    (weight.to(triton_device) * fast).sum().backward()
    (weight * slow).sum().backward()
    torch.testing.assert_close(found.grad.cpu().double(), exact.grad, **TOLERANCE)
    assert not found.grad[:, 11].any()


@pytest.mark.oracle
def test_coinciding_points_and_no_numbers(kernels: ModuleType, triton_device: torch.device) -> None:
    points = torch.randn(3, 5, 3)
    points[0, 2], points[1, 2] = points[0, 3], torch.nan
    where = points.to(triton_device).requires_grad_()
    energy = kernels.strain_energy(
        where, torch.tensor([[2, 3]]).to(triton_device), torch.ones(1).to(triton_device)
    )
    energy.sum().backward()
    assert energy.isnan().tolist() == [False, True, False]
    assert where.grad[[0, 2]].isfinite().all()
    assert where.grad[1, 2:4].isnan().all()


@pytest.mark.oracle
def test_no_pairs_are_no_energy(kernels: ModuleType, triton_device: torch.device) -> None:
    none = torch.zeros(0, 2, dtype=torch.int64, device=triton_device)
    points = torch.randn(3, 5, 3).to(triton_device)
    assert kernels.strain_energy(points, none, torch.zeros(0, device=triton_device)).tolist() == [
        0.0,
        0.0,
        0.0,
    ]
