"""Coefficients that several processes prepare together: each writes its part, all see the whole,
nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinesphere.observations.coefficients import HalfCoefficients, HalfKeeper
from kinesphere.observations.shared_coefficients import SharedKeeper, shared_keeper
from kinesphere.ranks import ALONE

N_IMAGES, N_COEFFICIENTS, SECOND_PART = 50, 7, 20


@pytest.fixture
def coefficients() -> torch.Tensor:
    return torch.randn(N_IMAGES, N_COEFFICIENTS, dtype=torch.complex64)


@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "memory"])
@pytest.mark.parametrize("is_exact", [True, False], ids=["exact", "half"])
def test_parts_of_two_processes_are_one_whole_for_both(
    tmp_path: Path,
    coefficients: torch.Tensor,
    is_exact: bool,  # noqa: FBT001 - parametrised
    on_disk: bool,  # noqa: FBT001 - parametrised
) -> None:
    shape = (N_IMAGES, N_COEFFICIENTS)
    with shared_keeper(tmp_path, shape, 0, ALONE, is_exact=is_exact, on_disk=on_disk) as keeper:
        other = SharedKeeper(keeper._file, shape, SECOND_PART, ALONE, is_exact=is_exact)
        other.write(coefficients[SECOND_PART:])
        keeper.write(coefficients[:11])
        keeper.write(coefficients[11:SECOND_PART])
        found, by_other = keeper.finish(), other.finish()
    assert not list(tmp_path.iterdir())
    rows = torch.tensor([3, 49, 19, 20])
    if is_exact:
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, coefficients)
        assert torch.equal(torch.as_tensor(by_other), coefficients)
        return
    whole = HalfKeeper(shape)
    whole.write(coefficients)
    assert isinstance(found, HalfCoefficients)
    assert isinstance(by_other, HalfCoefficients)
    expected = whole.finish().take(rows, 5)
    assert torch.equal(found.take(rows, 5), expected)
    assert torch.equal(by_other.take(rows, 5), expected)
    assert (found.pages is not None) == on_disk
