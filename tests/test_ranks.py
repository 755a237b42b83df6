"""Shares of ranks: nothing lost, nothing twice; and one rank alone, for which nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.still import undecoded
from kinesphere.errors import InputError
from kinesphere.inference.draws import Draws
from kinesphere.inference.latents import Proposal
from kinesphere.ranks import ALONE, Ranks


def every(size: int) -> list[Ranks]:
    return [Ranks(rank, size, rank, tuple(range(size))) for rank in range(size)]


@given(n_rows=st.integers(0, 200), size=st.integers(1, 17))
def test_shares_lose_nothing_repeat_nothing_and_are_even(n_rows: int, size: int) -> None:
    shares = [ranks.share(np.arange(n_rows)) for ranks in every(size)]
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(n_rows))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@given(n_rows=st.integers(1, 70), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_an_image_meets_the_same_numbers_whichever_rank_it_is_on(
    n_rows: int, size: int, seed: int
) -> None:
    whole = Draws(torch.Generator().manual_seed(seed), n_rows).uniform(3)
    assembled = torch.full_like(whole, torch.nan)
    for ranks in every(size):
        draws = Draws(torch.Generator().manual_seed(seed), n_rows, ranks)
        rows, numbers = draws.own(torch.arange(n_rows)), draws.uniform(3)
        assert len(rows) == len(numbers) >= 1
        if draws.weight:
            assembled[rows] = numbers
    assert torch.equal(assembled, whole)


@pytest.mark.parametrize("is_shared", [True, False])
@given(n_images=st.integers(1, 40), size=st.integers(1, 7), n_chosen=st.integers(1, 16))
def test_each_chosen_structure_counts_once_over_the_ranks(
    is_shared: bool,  # noqa: FBT001 - parametrised
    n_images: int,
    size: int,
    n_chosen: int,
) -> None:
    """The mean over chosen positions is the sum of what the ranks make of their own."""
    n_states = 12 if is_shared else n_images
    everything = torch.arange(1.0, n_states + 1)[:, None]
    chosen, total = torch.arange(n_states)[:n_chosen], 0.0
    for ranks in every(size):
        draws = Draws(torch.Generator(), n_images, ranks)
        z = everything if is_shared else draws.own(everything)
        none = torch.zeros(0, dtype=torch.int64)
        proposal = Proposal(
            undecoded(z), none, none, torch.zeros(0), torch.zeros(0), is_shared=is_shared
        )
        assert proposal.n_states(draws) == n_states
        rows, weight = proposal.own(chosen, draws)
        total += weight * float(z[rows].sum())
    assert total == pytest.approx(float(everything[chosen].mean()))


def test_one_rank_alone_is_left_as_it_is() -> None:
    values = torch.arange(3.0)
    ALONE.sum_([values])
    ALONE.copy_first_([values])
    assert torch.equal(values, torch.arange(3.0))
    assert ALONE.largest(2.0, -1.0) == (2.0, -1.0)
    assert ALONE.broadcast("word") == ALONE.from_first(lambda: "word") == "word"
    assert [team.ranks for team in ALONE.split(2)] == [ALONE, ALONE]
    assert ALONE.on_this_machine() is ALONE
    assert ALONE.is_first
    assert ALONE.is_first_of_all


@pytest.mark.parametrize(
    ("n_gpus", "found"), [(4, [0, 1, 2, 3]), (1, [0, 0, 0, 0])], ids=["all seen", "own seen"]
)
def test_each_rank_takes_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, n_gpus: int, found: list[int]
) -> None:
    pretend_gpus(monkeypatch, n_gpus)
    assert [ranks.choose_device("cuda").index for ranks in every(4)] == found


def test_several_ranks_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    with pytest.raises(InputError, match="cuda:1 is one GPU"):
        every(2)[0].choose_device("cuda:1")
    with pytest.raises(InputError, match="number 3 on a machine with 2 GPUs"):
        every(3)[2].choose_device("cuda")


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("kinesphere.ranks.choose_device", torch.device)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
