"""The encoder: what it must not see changes nothing, and its posterior is a Gaussian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from helpers.still import undecoded
from kinesphere.inference.decoder import Decoded
from kinesphere.inference.draws import Draws
from kinesphere.inference.encoder import VariationalLatents
from kinesphere.inference.likelihood import Likelihood, PreparedBatch, Scorer
from kinesphere.inference.objective import make_objective

N_IMAGES = 12


class ImageScorer(Scorer):
    """Prepared images, and a decoder that decodes nothing."""

    def __init__(self, prepared: PreparedBatch) -> None:
        self.prepared = prepared

    def decode(self, z: torch.Tensor) -> Decoded:
        return undecoded(z)


@pytest.fixture
def prepared(toy: Any) -> PreparedBatch:
    signal = toy.trainer().signal
    likelihood = Likelihood(toy.forward, make_objective("gaussian"), signal)
    return likelihood.prepare(toy.observations.batch(torch.arange(N_IMAGES)))


@pytest.fixture
def encoder(toy: Any) -> VariationalLatents:
    torch.manual_seed(3)
    return VariationalLatents(2, toy.observations.band, n_shells=6, hidden=16)


def seen(prepared: PreparedBatch, data: torch.Tensor, transfer: torch.Tensor) -> ImageScorer:
    """Show other coefficients, under another CTF."""
    gain = prepared.gain[:, : data.shape[1]]
    rest = (gain, prepared.norm, prepared.log_constant)
    return ImageScorer(PreparedBatch(prepared.batch, data, transfer, *rest))


def test_neither_scale_nor_the_sign_of_the_ctf_nor_fine_shells_are_seen(
    encoder: VariationalLatents, prepared: PreparedBatch
) -> None:
    expected = encoder.posterior(ImageScorer(prepared))
    brighter = seen(prepared, 7.0 * prepared.data, prepared.transfer)
    inverted = seen(prepared, -prepared.data, -prepared.transfer)
    finer = prepared.data.clone()
    finer[:, encoder.n_coefficients :] = 100.0
    for scorer in (brighter, inverted, seen(prepared, finer, prepared.transfer)):
        found = encoder.posterior(scorer)
        torch.testing.assert_close(found.mean, expected.mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.covariance, expected.covariance, atol=1e-5, rtol=1e-4)
    changed = seen(prepared, prepared.data.roll(1, 0), prepared.transfer)
    assert float((encoder.posterior(changed).mean - expected.mean).abs().max()) > 1e-3


def test_the_divergence_is_that_of_gaussians(
    encoder: VariationalLatents, prepared: PreparedBatch
) -> None:
    posterior = encoder.posterior(ImageScorer(prepared))
    proposal = encoder.propose(ImageScorer(prepared), Draws(torch.Generator(), N_IMAGES))
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2))
    exact = kl_divergence(MultivariateNormal(posterior.mean, posterior.covariance), prior)
    torch.testing.assert_close(proposal.divergence.detach(), exact, atol=1e-4, rtol=1e-3)
    assert proposal.divergence.requires_grad
    assert torch.equal(proposal.image, torch.arange(N_IMAGES))
    assert torch.equal(proposal.state, torch.arange(N_IMAGES))
    assert torch.equal(proposal.weight, torch.ones(N_IMAGES))


def test_samples_have_the_moments_of_the_posterior(
    encoder: VariationalLatents, prepared: PreparedBatch
) -> None:
    scorer = ImageScorer(prepared)
    posterior = encoder.posterior(scorer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        samples = torch.stack(
            [encoder.propose(scorer, Draws(generator, N_IMAGES)).z for _ in range(4000)]
        )
    std = posterior.covariance.diagonal(dim1=1, dim2=2).sqrt()
    error = (samples.mean(0) - posterior.mean) / std
    assert float(error.abs().max()) < 5 / 4000**0.5  # five standard errors
    torch.testing.assert_close(samples.std(0) / std, torch.ones(N_IMAGES, 2), atol=0.06, rtol=0)


def test_no_image_makes_a_posterior_boundless(
    encoder: VariationalLatents, prepared: PreparedBatch
) -> None:
    with torch.no_grad():
        encoder.network[-1].weight.mul_(1e4)
    variance = encoder.posterior(ImageScorer(prepared)).covariance.diagonal(dim1=1, dim2=2)
    assert float(variance.max()) <= torch.e**4 * 1.0001
    assert float(variance.min()) >= torch.e**-4 * 0.9999


def test_a_stage_with_fewer_shells_is_filled_with_zeros(
    encoder: VariationalLatents, prepared: PreparedBatch
) -> None:
    few = encoder.n_coefficients // 2
    cut = seen(prepared, prepared.data[:, :few], prepared.transfer[:, :few])
    empty = prepared.data.clone()
    empty[:, few:] = 0
    found = encoder.posterior(seen(prepared, empty, prepared.transfer))
    # the scale is that of what is there, zeros included in both
    torch.testing.assert_close(encoder.posterior(cut).mean, found.mean, atol=1e-5, rtol=1e-4)
