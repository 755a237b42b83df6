"""Latents: nodes are the prior's, draws are unbiased, the posterior of a Gaussian toy is the
Gaussian it should be."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from helpers.still import undecoded
from kinesphere.inference.decoder import Decoded
from kinesphere.inference.draws import Draws
from kinesphere.inference.latents import MarginalLatents, prior_nodes, systematic_resample
from kinesphere.inference.likelihood import Scorer
from kinesphere.inference.options import default_n_nodes


class GaussianScorer(Scorer):
    """Images that each saw its own latent through Gaussian noise: log p(x | z) = −½ |z − m|² /
    w²."""

    def __init__(self, measured: torch.Tensor, noise: float) -> None:
        self.measured, self.noise = measured, noise

    def subset(self, rows: torch.Tensor) -> GaussianScorer:
        return GaussianScorer(self.measured[rows], self.noise)

    def decode(self, z: torch.Tensor) -> Decoded:
        return undecoded(z)

    def shared(self, decoded: Decoded) -> torch.Tensor:
        return -0.5 * ((decoded.z[None] - self.measured[:, None]) / self.noise).square().sum(-1)

    def own(self, z: torch.Tensor) -> torch.Tensor:
        return -0.5 * ((z - self.measured[:, None]) / self.noise).square().sum(-1)


class RidgeScorer(Scorer):
    """Images that saw one direction of the latent space: log p(x | z) = −½ (u·z − m)² / w²."""

    def __init__(self, measured: torch.Tensor, noise: float, direction: torch.Tensor) -> None:
        self.measured, self.noise, self.direction = measured, noise, direction

    def subset(self, rows: torch.Tensor) -> RidgeScorer:
        return RidgeScorer(self.measured[rows], self.noise, self.direction)

    def decode(self, z: torch.Tensor) -> Decoded:
        return undecoded(z)

    def shared(self, decoded: Decoded) -> torch.Tensor:
        return (
            -0.5
            * (((decoded.z @ self.direction)[None] - self.measured[:, None]) / self.noise).square()
        )

    def own(self, z: torch.Tensor) -> torch.Tensor:
        return -0.5 * ((z @ self.direction - self.measured[:, None]) / self.noise).square()


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_nodes_have_the_moments_of_the_prior(latent_dim: int) -> None:
    nodes = prior_nodes(latent_dim, default_n_nodes(latent_dim))
    covariance = nodes.T @ nodes / len(nodes)
    assert nodes.shape == (default_n_nodes(latent_dim), latent_dim)
    assert float(nodes.mean(0).abs().max()) < 1e-6
    # few nodes in one dimension end at 1.9 standard deviations, which the missing tail costs 8% of
    # the variance
    torch.testing.assert_close(covariance, torch.eye(latent_dim), atol=0.1, rtol=0)
    many = prior_nodes(latent_dim, 4096)
    torch.testing.assert_close(many.T @ many / 4096, torch.eye(latent_dim), atol=0.02, rtol=0)
    torch.testing.assert_close(
        many.pow(4).mean(0), torch.full((latent_dim,), 3.0), atol=0.2, rtol=0
    )


def test_nodes_are_the_same_in_every_run_and_distinct() -> None:
    for latent_dim in (1, 2, 3, 4):
        nodes = prior_nodes(latent_dim, 64)
        torch.testing.assert_close(prior_nodes(latent_dim, 64), nodes, atol=0, rtol=0)
        assert float(torch.pdist(nodes).min()) > 0.01


@pytest.mark.parametrize("n_draws", [1, 4, 7])
def test_systematic_resampling_is_unbiased(n_draws: int) -> None:
    probability = torch.softmax(torch.randn(1, 9), 1)
    mean = systematic_resample(probability.expand(20_000, -1), n_draws, torch.rand(20_000, 1)).mean(
        0
    )
    # one draw's standard error is at most √(p (1 − p) / 20,000) < 0.0036
    torch.testing.assert_close(mean, probability[0], atol=5 * 0.0036, rtol=0)


def test_no_node_with_its_share_is_missed() -> None:
    probability = torch.softmax(2 * torch.randn(500, 12), 1)
    weight = systematic_resample(probability, 8, torch.rand(500, 1))
    torch.testing.assert_close(weight.sum(1), torch.ones(500))
    assert bool((weight[probability >= 1 / 8] > 0).all())
    assert float((weight - probability).abs().max()) <= 1 / 8 + 1e-6
    certain = torch.eye(12)[[3]]
    torch.testing.assert_close(systematic_resample(certain, 8, torch.rand(1, 1)), certain)


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_posterior_of_a_gaussian_measurement_is_the_textbook_one(
    latent_dim: int, noise: float
) -> None:
    """N(m / (1 + w²), w² / (1 + w²)): narrower than the nodes' spacing at w = 0.1, as broad as the
    prior at w = 1."""
    measured = torch.randn(1000, latent_dim)
    measured = measured[measured.norm(dim=1) < 1.5]
    posterior = MarginalLatents(latent_dim, default_n_nodes(latent_dim)).posterior(
        GaussianScorer(measured, noise)
    )
    std = noise / (1 + noise**2) ** 0.5
    error = (posterior.mean - measured / (1 + noise**2)) / std
    assert float(error.square().mean().sqrt()) < 0.05
    assert float(posterior.std.mean() / std) == pytest.approx(1.0, abs=0.02)
    assert float((posterior.std / std - 1).abs().max()) < 0.35


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_posterior_of_one_measured_direction_is_a_ridge(noise: float) -> None:
    """Known to w / √(1 + w²) in the direction that was measured, as broad as the prior across
    it."""
    direction = torch.tensor([0.6, 0.8])
    measured = torch.randn(1000)
    measured = measured[measured.abs() < 1.2]
    posterior = MarginalLatents(2, default_n_nodes(2)).posterior(
        RidgeScorer(measured, noise, direction)
    )
    across = torch.tensor([0.8, -0.6])
    std = noise / (1 + noise**2) ** 0.5
    along_variance = torch.einsum("i,bij,j->b", direction, posterior.covariance, direction)
    assert float(along_variance.mean().sqrt() / std) == pytest.approx(1.0, abs=0.1)
    across_variance = torch.einsum("i,bij,j->b", across, posterior.covariance, across)
    assert float(across_variance.mean()) == pytest.approx(1.0, abs=0.25)
    assert float(posterior.std.min()) > 1.5 * std  # either axis alone looks unknown


def test_refinement_is_what_resolves_narrow_posteriors() -> None:
    measured = torch.linspace(-1.3, 1.3, 101)[:, None]
    errors = []
    for refinements in (0, 4):
        latents = MarginalLatents(1, 16, refinements=refinements)
        posterior = latents.posterior(GaussianScorer(measured, 0.05))
        errors.append(float((posterior.mean - measured / 1.0025).abs().mean()))
    assert errors[1] < 0.2 * errors[0]


def test_posterior_is_deterministic() -> None:
    latents, scorer = MarginalLatents(2, 48), GaussianScorer(torch.randn(20, 2), 0.3)
    first, second = latents.posterior(scorer), latents.posterior(scorer)
    torch.testing.assert_close(first.mean, second.mean, atol=0, rtol=0)
    torch.testing.assert_close(first.std, second.std, atol=0, rtol=0)


def test_proposal_pairs_carry_the_posterior() -> None:
    latents = MarginalLatents(1, 16, n_draws=4000)
    scorer = GaussianScorer(torch.tensor([[0.4], [-1.0]]), 0.5)
    proposal = latents.propose(scorer, Draws(torch.Generator().manual_seed(0), 2))
    weight = torch.zeros(2, 16).index_put_((proposal.image, proposal.state), proposal.weight)
    posterior = torch.softmax(scorer.shared(undecoded(latents.nodes)), 1)
    torch.testing.assert_close(weight, posterior, atol=1 / 4000, rtol=0)
    evidence = torch.logsumexp(scorer.shared(undecoded(latents.nodes)), 1) - torch.log(
        torch.tensor(16.0)
    )
    weighed = proposal.weighed(
        scorer.shared(undecoded(latents.nodes))[proposal.image, proposal.state]
    )
    torch.testing.assert_close(
        weighed.weight, proposal.weight
    )  # what is drawn from the posterior counts alike
    torch.testing.assert_close(cast("Any", weighed.log_evidence), evidence)
    # ∫ N(m; z, w²) N(z; 0, 1) dz, against which 16 nodes are a quadrature
    measured, variance = scorer.measured[:, 0], torch.tensor(1.25)
    exact = -0.5 * measured**2 / variance - 0.5 * (variance / 0.25).log()
    torch.testing.assert_close(evidence, exact, atol=0.03, rtol=0)
