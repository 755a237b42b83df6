"""Shares of ranks: nothing lost, nothing twice; and one rank alone, for which nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinesphere.errors import InputError
from kinesphere.ranks import ALONE, Ranks


def every(size: int) -> list[Ranks]:
    return [Ranks(rank, size, rank, tuple(range(size))) for rank in range(size)]


@given(n_rows=st.integers(0, 200), size=st.integers(1, 17))
def test_shares_lose_nothing_repeat_nothing_and_are_even(n_rows: int, size: int) -> None:
    shares = [ranks.share(np.arange(n_rows)) for ranks in every(size)]
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(n_rows))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


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
