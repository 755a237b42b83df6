"""Posteriors of an earlier pass: kept, exchanged, and corrected by weights for what has changed
since."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from helpers.pretended_rank import Pretended
from helpers.still import undecoded
from kinesphere.inference.decoder import Decoded
from kinesphere.inference.draws import Draws
from kinesphere.inference.latents import MarginalLatents, Responsibilities
from kinesphere.inference.likelihood import Scorer
from kinesphere.methods.segments import SegmentsScheduleConfig
from kinesphere.ranks import Ranks

N_IMAGES, N_NODES = 12, 16


class GaussianScorer(Scorer):
    """Measurements of z itself; counts how many images are compared with all nodes."""

    def __init__(self, measured: torch.Tensor, std: float) -> None:
        self.measured, self.std, self.looked_at = measured, std, [0]
        self.index = torch.arange(len(measured))

    @property
    def batch(self) -> Any:
        return self

    def subset(self, rows: torch.Tensor) -> GaussianScorer:
        part = GaussianScorer(self.measured[rows], self.std)
        part.looked_at = self.looked_at
        return part

    def decode(self, z: torch.Tensor) -> Decoded:
        return undecoded(z)

    def shared(self, decoded: Decoded) -> torch.Tensor:
        self.looked_at[0] += len(self.measured)
        return self.score(decoded.z)

    def score(self, z: torch.Tensor) -> torch.Tensor:
        return -0.5 * ((self.measured - z[:, 0]) / self.std) ** 2


def draws(seed: int = 0, n: int = N_IMAGES) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), n)


@pytest.fixture
def latents() -> MarginalLatents:
    found = MarginalLatents(1, N_NODES, look_every=4)
    found.begin_epoch(0, N_IMAGES, anew=True)
    return found


def test_every_image_is_looked_at_first_and_then_a_quarter_in_every_pass(
    latents: MarginalLatents,
) -> None:
    scorer = GaussianScorer(torch.randn(N_IMAGES, 1), 0.5)
    counts = []
    for epoch in range(5):
        latents.begin_epoch(epoch, N_IMAGES, anew=False)
        before = scorer.looked_at[0]
        latents.propose(scorer, draws())
        counts.append(scorer.looked_at[0] - before)
    assert counts == [12, 3, 3, 3, 3]
    latents.begin_epoch(5, N_IMAGES, anew=True)
    latents.propose(scorer, draws())
    assert scorer.looked_at[0] == sum(counts) + 12


def test_without_passes_between_looks_nothing_is_kept() -> None:
    latents = MarginalLatents(1, N_NODES, look_every=1)
    latents.begin_epoch(0, N_IMAGES, anew=True)
    scorer = GaussianScorer(torch.randn(N_IMAGES, 1), 0.5)
    for _ in range(2):
        latents.propose(scorer, draws())
    assert scorer.looked_at[0] == 2 * N_IMAGES
    assert latents.memory() == {}


def test_weights_turn_draws_from_an_older_posterior_into_the_present_one(
    latents: MarginalLatents,
) -> None:
    """The model has moved by one standard deviation since; with many draws, importance sampling is
    exact."""
    measured = torch.randn(N_IMAGES, 1)
    latents.propose(GaussianScorer(measured, 0.5), draws())
    latents.begin_epoch(1, N_IMAGES, anew=False)
    latents.n_draws = 4000
    present = GaussianScorer(measured + 0.5, 0.5)
    proposal = latents.propose(present, draws())
    each = present.score(latents.nodes)
    weighed = proposal.weighed(each[proposal.image, proposal.state])
    found = torch.zeros(N_IMAGES, N_NODES).index_put_(
        (weighed.image, weighed.state), weighed.weight
    )
    torch.testing.assert_close(found, torch.softmax(each, 1), atol=5e-3, rtol=0)
    evidence = torch.logsumexp(each, 1) - torch.log(torch.tensor(float(N_NODES)))
    torch.testing.assert_close(
        cast("torch.Tensor", weighed.log_evidence), evidence, atol=5e-3, rtol=0
    )
    drawn = torch.zeros(N_IMAGES, N_NODES).index_put_(
        (proposal.image, proposal.state), proposal.weight
    )
    assert float((drawn - torch.softmax(each, 1)).abs().max()) > 0.1


def test_estimated_evidence_of_few_draws_is_unbiased(latents: MarginalLatents) -> None:
    measured = torch.randn(N_IMAGES, 1)
    latents.propose(GaussianScorer(measured, 0.5), draws())
    latents.begin_epoch(1, N_IMAGES, anew=False)
    present = GaussianScorer(measured + 0.2, 0.5)
    each = present.score(latents.nodes)
    exact = each.exp().mean(1)
    estimates = []
    for seed in range(400):
        proposal = latents.propose(present, draws(seed))
        weighed = proposal.weighed(each[proposal.image, proposal.state])
        estimates.append(cast("torch.Tensor", weighed.log_evidence).exp())
    found = torch.stack(estimates)
    error = (found.mean(0) - exact).abs() / (found.std(0) / 20 + 1e-6)
    assert float(error.max()) < 4.5
    assert float((found.std(0) / exact).max()) > 0.01  # of a single proposal


def test_ranks_tell_each_other_what_they_have_found() -> None:
    own, kept = torch.rand(2, 3).half().float(), Responsibilities(5, 3, torch.device("cpu"))
    kept.keep(torch.arange(5), torch.full((5, 3), 0.25))
    kept.exchange(Pretended(other=[torch.zeros(5, 3), torch.zeros(5)]))
    kept.keep(torch.tensor([1, 2]), own)
    theirs = torch.zeros(5, 3)
    theirs[4] = torch.tensor([0.5, 0.25, 0.25])
    kept.exchange(Pretended(other=[theirs, torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])]))
    expected = torch.full((5, 3), 0.25)
    expected[1:3], expected[4] = own, theirs[4]
    torch.testing.assert_close(kept.of(torch.arange(5)), expected, atol=0, rtol=0)


def test_a_rank_without_images_keeps_nothing(latents: MarginalLatents) -> None:
    idle = replace(draws(n=1), ranks=Ranks(rank=1, size=2, members=(0, 1)))
    scorer = GaussianScorer(torch.randn(1, 1), 0.5)
    latents.propose(scorer, idle)
    assert latents.memory()["responsibilities"].isnan().all()


def test_memory_of_other_nodes_is_refused(latents: MarginalLatents) -> None:
    with pytest.raises(ValueError, match="16 nodes instead of 7"):
        MarginalLatents(1, 7, look_every=4).recall(latents.memory())


def test_few_looks_find_the_motion_that_many_find(make_toy: Any) -> None:
    toy = make_toy(n_images=256)
    schedule = SegmentsScheduleConfig(epochs=8, coarse_epochs=2, learning_rate=3e-3, patience=100)
    evidence, pairs = [], []
    for look_every in (1, 4):
        trainer = toy.trainer(schedule=schedule, look_every=look_every)
        trainer.fit()
        evidence.append(trainer.progress.history[-1]["log_likelihood"])
        pairs.append(trainer.infer().mean[:, 0])
    rise = evidence[0] - trainer.progress.history[0]["log_likelihood"]
    assert abs(evidence[1] - evidence[0]) < 0.05 * abs(rise)
    assert abs(float(torch.corrcoef(torch.stack(pairs))[0, 1])) > 0.99
