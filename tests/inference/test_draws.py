"""Random numbers of a batch that ranks share: each image meets the same, whoever has it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.still import undecoded
from helpers.toy import Toy
from kinesphere.inference.draws import Draws, serve_shares
from kinesphere.inference.latents import Proposal
from kinesphere.ranks import ALONE, Ranks


def every(size: int) -> list[Ranks]:
    return [Ranks(rank, size, rank, tuple(range(size))) for rank in range(size)]


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


def test_ranks_are_served_the_batches_of_one_with_its_numbers(toy: Toy) -> None:
    batches = torch.randperm(90).split(13)  # the last has twelve images

    def served(ranks: Ranks, first: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(3)
        pairs = serve_shares(toy.observations, batches, generator, ranks, first=first)
        return [(batch.index, draws.normal(2)) for batch, draws in pairs]

    whole = served(ALONE)
    parts = [served(ranks) for ranks in every(3)]
    assert len(whole) == len(batches)
    for number, (index, numbers) in enumerate(whole):
        assert torch.equal(index, batches[number])
        together = {
            int(row): values.tolist()
            for part in parts
            for row, values in zip(*part[number], strict=True)
        }
        assert together == {
            int(row): values.tolist() for row, values in zip(index, numbers, strict=True)
        }
    assert torch.equal(served(ALONE, first=4)[0][0], batches[4])


def test_a_rank_without_an_image_takes_one_that_does_not_count() -> None:
    draws = Draws(torch.Generator().manual_seed(0), 2, Ranks(3, 4, 3, tuple(range(4))))
    assert draws.is_idle
    assert draws.weight == 0.0
    assert draws.own(torch.tensor([7, 8])).tolist() == [7]


def test_some_things_are_chosen_once_and_the_same_on_all_ranks() -> None:
    chosen = [
        Draws(torch.Generator().manual_seed(5), 40, ranks).some(40, 9).tolist()
        for ranks in every(3)
    ]
    assert chosen[0] == chosen[1] == chosen[2]
    assert len(set(chosen[0])) == 9
    assert set(chosen[0]) <= set(range(40))
