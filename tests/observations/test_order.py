"""The order of images: every image once, from seed and epoch alone, random within what the disk
allows."""

from __future__ import annotations

import pytest
import torch

from kinesphere.observations.order import images_a_window, order_of_epoch, sample_of_groups

N, WINDOW, CHUNK = 10_007, 1280, 10


@pytest.mark.parametrize(
    ("n", "window"), [(1, 128), (127, 128), (128, 128), (129, 128), (N, WINDOW), (N, 128)]
)
def test_every_image_once(n: int, window: int) -> None:
    assert order_of_epoch(n, window, 3, 5).sort().values.tolist() == list(range(n))


def test_follows_from_seed_and_epoch_alone() -> None:
    first = order_of_epoch(N, WINDOW, 3, 5)
    torch.rand(7)
    assert torch.equal(first, order_of_epoch(N, WINDOW, 3, 5))
    for seed, epoch in ((3, 6), (4, 5)):
        assert not torch.equal(first, order_of_epoch(N, WINDOW, seed, epoch))


def test_a_set_within_a_window_is_permuted_as_a_whole() -> None:
    draw = torch.Generator().manual_seed(2 * 1_000_003 + 4)
    assert torch.equal(order_of_epoch(500, 500, 2, 4), torch.randperm(500, generator=draw))


def test_a_window_is_read_in_long_runs() -> None:
    for rows in order_of_epoch(N, WINDOW, 0, 0).split(WINDOW):
        runs = 1 + int((rows.sort().values.diff() > 1).sum())
        assert (
            runs <= 128 + 3
        )  # two chunks may be cut by the window's ends, one by the end of the set


def test_batches_are_nearly_those_of_a_full_shuffle() -> None:
    """64 images of 128 chunks: as many places of the file as 64 draws from 128 hit, and a mean as
    of free draws."""
    batches = torch.cat(
        [order_of_epoch(N, WINDOW, 0, epoch)[: 64 * 156].view(-1, 64) for epoch in range(20)]
    )
    n_places = torch.tensor([len((rows // CHUNK).unique()) for rows in batches])
    assert float(n_places.float().mean()) > 45
    spread_of_mean = float(batches.float().mean(1).std()) / (N / 12**0.5 / 64**0.5)
    assert 0.8 < spread_of_mean < 1.3


def test_neighbours_part_between_epochs() -> None:
    """Two images that are in one window in one epoch are not more likely to be so in the next than
    any others."""
    first, second = (order_of_epoch(N, WINDOW, 0, epoch).argsort() // WINDOW for epoch in (0, 1))
    apart = (first[:-CHUNK] != first[CHUNK:]) | (second[:-CHUNK] != second[CHUNK:])
    assert float(apart.float().mean()) > 0.9


def test_a_window_is_half_a_gigabyte() -> None:
    assert images_a_window(2276) * 2276 * 4 == pytest.approx(2**29, rel=1e-4)


def test_a_sample_of_a_small_set_is_all_of_it() -> None:
    assert sample_of_groups(torch.arange(60_000) % 3).tolist() == list(range(60_000))


def test_a_sample_of_a_large_set_has_of_every_group_and_from_everywhere() -> None:
    group = (torch.arange(400_000) % 7 == 0).long()
    group[123_456] = 2
    rows = sample_of_groups(group)
    assert bool((rows.diff() > 0).all())
    counts = group[rows].bincount().tolist()
    assert counts[2] == 1
    assert all(84 * 256 < count <= 85 * 256 for count in counts[:2])
    for number in (0, 1):
        chosen = rows[group[rows] == number]
        assert int(chosen.diff().max()) < 400_000 / 80 * 1.1
        assert [int(chosen[0]), int(chosen[-1])] == [
            1 - number,
            int((group == number).nonzero()[-1]),
        ]
