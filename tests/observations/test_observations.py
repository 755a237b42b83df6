"""Images by row: subsets share memory, bands are prefixes, and what is kept is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinesphere.observations.coefficients import HalfKeeper
from kinesphere.observations.observations import Observations


def half(observations: Observations) -> Observations:
    """Keep the coefficients as float16."""
    keeper = HalfKeeper(tuple(observations.exact.shape))
    keeper.write(observations.exact)
    return Observations(
        keeper.finish(),
        observations.rotation,
        observations.ctf,
        observations.group,
        observations.band,
    )


def test_a_subset_of_a_subset_is_counted_from_the_first_and_copies_nothing(toy: Any) -> None:
    whole = toy.observations
    part = whole.subset(torch.tensor([5, 9, 2, 40])).subset(torch.tensor([3, 1]))
    assert len(part) == 2
    assert torch.equal(part.stored_rows(torch.tensor([0, 1])), torch.tensor([40, 9]))
    assert part.data.data_ptr() == whole.data.data_ptr()
    batch = part.batch(torch.tensor([1, 0]))
    assert torch.equal(batch.index, torch.tensor([1, 0]))
    assert torch.equal(batch.data, whole.data[[9, 40]])
    assert torch.equal(batch.rotation, whole.rotation[[9, 40]])
    assert torch.equal(
        batch.ctf.defocus_u_angstrom, whole.ctf.defocus_u_angstrom[torch.tensor([9, 40])]
    )


def test_a_coarser_band_is_the_beginning_of_a_finer_one(toy: Any) -> None:
    rows = torch.arange(6)
    coarse = toy.observations.band.coarser(4)
    for observations in (toy.observations, half(toy.observations)):
        fine = observations.batch(rows).data
        assert torch.equal(observations.batch(rows, coarse).data, fine[:, : len(coarse)])


def test_some_images_of_a_batch_are_the_batch_of_some_images(toy: Any) -> None:
    batch = toy.observations.batch(torch.tensor([4, 8, 15, 16]))
    some = batch.subset(torch.tensor([2, 0]))
    same = toy.observations.batch(torch.tensor([15, 4]))
    assert len(some) == 2
    for name in ("index", "data", "rotation", "group"):
        assert torch.equal(getattr(some, name), getattr(same, name))


def test_full_precision_is_not_made_up_of_half(toy: Any) -> None:
    assert toy.observations.exact is toy.observations.data
    with pytest.raises(TypeError, match="float16"):
        _ = half(toy.observations).exact


def test_storage_is_said_with_its_size(toy: Any) -> None:
    n = toy.observations.exact.numel()
    assert toy.observations.n_bytes == 8 * n
    assert toy.observations.storage == f"{8 * n / 1e6:.3g} MB of float32 in memory"
    kept = half(toy.observations)
    assert kept.n_bytes == pytest.approx(4 * n, rel=0.01)
    assert kept.storage.endswith("of float16 in memory")
    assert kept.pages is None


def test_the_sample_of_a_subset_has_rows_of_the_subset_and_all_its_groups(make_toy: Any) -> None:
    observations = make_toy(n_images=24, n_groups=3).observations
    assert observations.n_groups == 3
    part = observations.subset(torch.arange(0, 24, 2))
    assert torch.equal(part.sample(), torch.arange(12))
    assert set(part.batch(part.sample()).group.tolist()) == {0, 1, 2}
