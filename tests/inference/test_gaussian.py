"""Gaussian posteriors: exact where images are linear in the latents, honest where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from helpers.pretended_rank import Pretended
from helpers.still import undecoded
from kinesphere.inference.decoder import Decoded
from kinesphere.inference.draws import Draws
from kinesphere.inference.gaussian import GaussianLatents, Gaussians, gauss_newton
from kinesphere.inference.likelihood import Scorer

N_IMAGES, N_VALUES, D = 12, 40, 3
Model = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Prepared:
    data: torch.Tensor

    @property
    def batch(self) -> torch.Tensor:
        return self.data


class VectorScorer(Scorer):
    """Images that are complex vectors model(z) under noise of variance 1 of each part."""

    def __init__(self, data: torch.Tensor, model: Model, index: torch.Tensor | None = None) -> None:
        self.data, self.model = data, model
        self.index = torch.arange(len(data)) if index is None else index
        self.prepared = Prepared(data)  # type: ignore[assignment]

    @property
    def batch(self) -> Any:
        return self

    def __len__(self) -> int:
        return len(self.data)

    def subset(self, rows: torch.Tensor) -> VectorScorer:
        return VectorScorer(self.data[rows], self.model, self.index[rows])

    def decode(self, z: torch.Tensor) -> Decoded:
        return undecoded(z)

    def models(self, z: torch.Tensor) -> torch.Tensor:
        return self.model(z)

    def own(self, z: torch.Tensor) -> torch.Tensor:
        return -0.5 * (self.data[:, None] - self.model(z)).abs().square().sum(-1)

    def shared(self, decoded: Decoded) -> torch.Tensor:
        return self.own(decoded.z.expand(len(self.data), -1, -1))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.view_as_complex(normal(*shape, 2, seed=seed))


def draws(n: int = N_IMAGES, seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), n)


@pytest.fixture
def linear() -> tuple[VectorScorer, torch.Tensor, torch.Tensor]:
    """Images linear in three latents, and their exact posteriors."""
    loading = 0.4 * vectors(D, N_VALUES, seed=1)
    offset = vectors(N_VALUES, seed=2)
    data = normal(N_IMAGES, D, seed=3).to(loading) @ loading + offset
    data = data + vectors(N_IMAGES, N_VALUES, seed=4)

    def model(z: torch.Tensor) -> torch.Tensor:
        return z.to(loading) @ loading + offset

    precision = (loading @ loading.conj().T).real + torch.eye(D)
    covariance = torch.linalg.inv(precision)
    mean = ((data - offset) @ loading.conj().T).real @ covariance
    return VectorScorer(data, model), mean, covariance


@pytest.mark.parametrize("size", [1.0, 0.2])
def test_a_step_finds_the_exact_posterior_of_linear_images(
    linear: tuple[VectorScorer, torch.Tensor, torch.Tensor], size: float
) -> None:
    scorer, mean, covariance = linear
    near = mean + size * 0.3 * normal(N_IMAGES, D, seed=5)
    start = Gaussians(near, size * torch.eye(D).repeat(N_IMAGES, 1, 1))
    found = gauss_newton(scorer, start)
    torch.testing.assert_close(found.mean, mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        found.covariance, covariance.expand_as(found.covariance), atol=1e-4, rtol=1e-3
    )


def test_a_step_is_never_longer_than_three_standard_deviations() -> None:
    scorer = VectorScorer(
        torch.full((1, 4), 100.0 + 0j), lambda z: z.to(torch.complex64).expand(*z.shape[:-1], 4)
    )
    start = Gaussians.prior(1, 1, torch.device("cpu"))
    assert float(gauss_newton(scorer, start).mean) == pytest.approx(3.0, abs=1e-5)


def test_draws_from_an_exact_posterior_weigh_the_same_and_give_the_evidence(
    linear: tuple[VectorScorer, torch.Tensor, torch.Tensor],
) -> None:
    scorer, mean, covariance = linear
    latents = GaussianLatents(D, n_draws=6)
    for epoch in range(3):
        latents.begin_epoch(epoch, N_IMAGES, anew=False)
        proposal = latents.propose(scorer, draws(seed=epoch))
    score = scorer.own(proposal.z.reshape(N_IMAGES, 6, D)).flatten()
    weighed = proposal.weighed(score)
    torch.testing.assert_close(
        weighed.weight, torch.full((6 * N_IMAGES,), 1 / 6), atol=1e-3, rtol=0.01
    )
    peak = scorer.own(mean[:, None])[:, 0] - 0.5 * mean.square().sum(1)
    exact = peak + 0.5 * torch.logdet(covariance)
    torch.testing.assert_close(weighed.log_evidence, exact, atol=2e-3, rtol=1e-5)
    # pairs either side of the mean
    z = proposal.z.reshape(N_IMAGES, 2, 3, D)
    torch.testing.assert_close(z.mean((1, 2)), mean, atol=1e-3, rtol=1e-3)


def bent(z: torch.Tensor) -> torch.Tensor:
    """A curve that is far from straight over the prior."""
    t = z[..., :1]
    return 3.0 * torch.cat([t, (1.5 * t).sin(), t.square()], dim=-1).to(torch.complex64)


def test_posterior_moments_of_bent_images_are_those_of_a_fine_grid() -> None:
    truth = normal(N_IMAGES, 1, seed=6)
    scorer = VectorScorer(bent(truth) + vectors(N_IMAGES, 3, seed=7), bent)
    others = Gaussians(torch.linspace(-2, 2, 16)[:, None], 0.2 * torch.ones(16, 1, 1))
    found = GaussianLatents(1, others=others).posterior(scorer)
    grid = torch.linspace(-5, 5, 4001)[:, None]
    weight = torch.softmax(scorer.shared(undecoded(grid)) - 0.5 * grid[:, 0] ** 2, 1)
    mean = weight @ grid
    std = (weight @ grid**2 - mean**2).sqrt()
    assert float(((found.mean - mean) / std).abs().max()) < 0.25
    assert float((found.std / std).log().abs().max()) < 0.25


def two_valleys(z: torch.Tensor) -> torch.Tensor:
    """At z = −1 and 1 nearly alike, and between them something else."""
    t = z[..., :1]
    return torch.cat([8.0 * (t.square() - 1.0), 2.0 * t], dim=-1).to(torch.complex64)


def test_an_image_leaves_a_worse_place_for_one_that_others_have_found() -> None:
    data = two_valleys(torch.ones(1, 1))
    stuck = GaussianLatents(1, look_every=1)
    stuck.begin_epoch(0, 2, anew=False)
    both = Gaussians(torch.tensor([[-1.0], [1.0]]), 0.05 * torch.ones(2, 1, 1))
    memory = {
        "mean": both.mean,
        "root": both.root,
        "known": torch.ones(2, dtype=torch.bool),
        "pool_epoch": torch.tensor(0),
    }
    scorer = VectorScorer(data, two_valleys)
    alone = gauss_newton(scorer, both[torch.tensor([0])])
    assert float(alone.mean) < -0.5
    stuck.recall(memory)
    stuck.begin_epoch(1, 2, anew=False)
    proposal = stuck.propose(scorer, draws(1))
    assert float(proposal.z.mean()) > 0.9


def test_training_goes_on_from_memory_as_if_nothing_had_happened(
    linear: tuple[VectorScorer, torch.Tensor, torch.Tensor],
) -> None:
    scorer, _, _ = linear
    first, second = GaussianLatents(D), GaussianLatents(D)
    for epoch in range(2):
        first.begin_epoch(epoch, N_IMAGES, anew=False)
        first.propose(scorer, draws(seed=epoch))
    second.recall({name: value.clone() for name, value in first.memory().items()})
    for latents in (first, second):
        latents.begin_epoch(1, N_IMAGES, anew=False)  # the same pass, resumed
    assert torch.equal(
        first.propose(scorer, draws(seed=9)).z, second.propose(scorer, draws(seed=9)).z
    )
    with pytest.raises(ValueError, match="3 latent dimensions instead of 2"):
        GaussianLatents(2).recall(first.memory())


def test_turning_changes_names_only(
    linear: tuple[VectorScorer, torch.Tensor, torch.Tensor],
) -> None:
    scorer, _, _ = linear
    latents = GaussianLatents(D)
    latents.begin_epoch(0, N_IMAGES, anew=False)
    latents.propose(scorer, draws())
    axes = torch.linalg.qr(normal(D, D, seed=8)).Q
    before = latents.mean_covariance
    latents.turn(axes[:, :2])
    assert latents.latent_dim == 2
    torch.testing.assert_close(
        latents.mean_covariance, axes[:, :2].T @ before @ axes[:, :2], atol=1e-4, rtol=1e-3
    )
    latents.turn(torch.eye(2, 3))  # a further dimension, of which nothing is known
    torch.testing.assert_close(
        latents.mean_covariance[2], torch.tensor([0.0, 0.0, 1.0]), atol=1e-4, rtol=0
    )


def test_ranks_give_each_other_what_they_have_found(
    linear: tuple[VectorScorer, torch.Tensor, torch.Tensor],
) -> None:
    scorer, _, _ = linear
    latents = GaussianLatents(D)
    latents.begin_epoch(0, N_IMAGES, anew=False)
    own = torch.arange(0, N_IMAGES, 2)
    latents.propose(scorer.subset(own), draws(len(own)))
    mine = latents.examples(N_IMAGES)
    assert mine is not None
    theirs = torch.arange(N_IMAGES) % 2 == 1
    mean = torch.where(theirs[:, None], 7.0, torch.zeros(N_IMAGES, D))
    root = torch.where(theirs[:, None, None], 0.5 * torch.eye(D), torch.zeros(N_IMAGES, D, D))
    latents.exchange(Pretended(other=[mean, root, theirs.float()]))
    found = latents.examples(N_IMAGES)
    assert found is not None
    assert len(mine) == N_IMAGES // 2
    assert torch.equal(found.mean[own], mine.mean)
    assert torch.equal(found.mean[theirs], torch.full((N_IMAGES // 2, D), 7.0))
