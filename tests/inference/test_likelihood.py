"""The likelihood against brute force: every image against every structure with the exact
renderer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kinesphere.imaging.forward import shell_values
from kinesphere.imaging.gaussians import render_exact
from kinesphere.inference.draws import Draws
from kinesphere.inference.latents import MarginalLatents
from kinesphere.inference.likelihood import Likelihood, PreparedBatch, Scorer
from kinesphere.inference.objective import make_objective
from kinesphere.inference.options import ObjectiveName
from kinesphere.motion.segments import SegmentsMotion
from kinesphere.training.trainer import Trainer

N_IMAGES = 12


@pytest.fixture
def trainer(make_toy: Callable[..., Any]) -> Trainer:
    """A model part of the way through training, so that nothing is at rest, with two optics
    groups."""
    trainer: Trainer = make_toy(n_images=64, n_groups=2).trainer(n_nodes=7)
    assert isinstance(trainer.motion, SegmentsMotion)
    with torch.no_grad():
        for parameter in trainer.motion.decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    trainer.motion.eval()
    return trainer


def scorer_of(
    trainer: Trainer, objective: ObjectiveName = "gaussian"
) -> tuple[Likelihood, PreparedBatch, Scorer]:
    likelihood = Likelihood(trainer.forward, make_objective(objective), trainer.signal)
    prepared = likelihood.prepare(trainer.observations.batch(torch.arange(N_IMAGES)))
    return (
        likelihood,
        prepared,
        Scorer(likelihood, prepared, trainer.decoder),
    )


@torch.no_grad()
def scores(trainer: Trainer, z: torch.Tensor) -> torch.Tensor:
    """Log-likelihood (b, k) of the Gaussian data term by brute force."""
    cross, power, _ = brute_force(trainer, z)
    return cross - 0.5 * power


def brute_force(
    trainer: Trainer, z: torch.Tensor, *, whitened: bool = True
) -> tuple[torch.Tensor, ...]:
    """cross, power (b, k) and norm (b, 1) of images and structures, each image rendered by the
    exact sum."""
    band, forward = trainer.observations.band, trainer.forward
    batch = trainer.observations.batch(torch.arange(N_IMAGES))
    positions = trainer.decoder.decode(z).double()
    projected = torch.einsum("kpi,bij->bkpj", positions, batch.rotation.double()[..., :2]).flatten(
        0, 1
    )
    rendered = render_exact(projected, forward.amplitude, forward.width_angstrom, forward.grid)
    factor = band.select(rendered).reshape(N_IMAGES, len(z), -1)
    model = factor * forward.transfer(batch.ctf)[:, None]
    weight = band.multiplicity.expand(N_IMAGES, -1)
    if whitened:
        model = model * shell_values(trainer.signal.scale, batch.group, band)[:, None]
        weight = weight / shell_values(trainer.signal.variance, batch.group, band)
    data = batch.data[:, None]
    cross = ((data.conj() * model).real * weight[:, None]).sum(-1)
    power = (model.abs().square() * weight[:, None]).sum(-1)
    return cross, power, (data.abs().square() * weight[:, None]).sum(-1)


def test_every_image_is_compared_with_every_structure(trainer: Trainer) -> None:
    _, _, scorer = scorer_of(trainer)
    z = torch.linspace(-2, 2, 7)[:, None]
    exact, found = scores(trainer, z), scorer.shared(scorer.decode(z))
    assert float((found - exact).abs().max()) < 0.02 * float(exact.std())
    assert (
        float(exact.std(1).mean()) > 1.0
    )  # the structures differ by nats, or nothing would be tested


@pytest.mark.parametrize("objective", ["profiled", "correlation"])
def test_other_data_terms_are_fed_the_same_products(
    trainer: Trainer, objective: ObjectiveName
) -> None:
    likelihood, _, scorer = scorer_of(trainer, objective)
    z = torch.linspace(-2, 2, 5)[:, None]
    with torch.no_grad():
        cross, power, norm = brute_force(trainer, z, whitened=likelihood.objective.whitened)
    correlation = cross / (power * norm).sqrt()
    n_values = float(trainer.observations.band.multiplicity.sum())
    exact = (
        correlation
        if objective == "correlation"
        else -0.5 * n_values * torch.log1p(-(correlation.clamp_min(0) ** 2))
    )
    assert float((scorer.shared(scorer.decode(z)) - exact).abs().max()) < 0.02 * float(exact.std())


def test_pairs_states_and_own_latents_agree(trainer: Trainer) -> None:
    likelihood, prepared, scorer = scorer_of(trainer)
    z = torch.linspace(-2, 2, 7)[:, None]
    table = scorer.shared(scorer.decode(z))
    image, state = torch.tensor([0, 3, 3, 11]), torch.tensor([6, 0, 5, 2])
    positions = trainer.decoder.decode(z)
    pairs, factor = likelihood.pairs(prepared, positions, image, state)
    torch.testing.assert_close(pairs, table[image, state], atol=1e-2, rtol=1e-4)
    assert factor.shape == (4, len(trainer.observations.band))
    torch.testing.assert_close(scorer.own(z.expand(N_IMAGES, -1, -1)), table, atol=1e-2, rtol=1e-4)


def test_log_density_of_the_images_is_complete(trainer: Trainer) -> None:
    """Score, norm and constant together are the density of complex normal noise, up to powers of
    2π."""
    likelihood, prepared, _ = scorer_of(trainer)
    batch, band = prepared.batch, trainer.observations.band
    positions = trainer.decoder.decode(torch.zeros(1, 1))
    every, zeros = torch.arange(N_IMAGES), torch.zeros(N_IMAGES, dtype=torch.int64)
    score, factor = likelihood.pairs(prepared, positions, every, zeros)
    found = score - 0.5 * prepared.norm + prepared.log_constant
    model = factor * prepared.transfer * shell_values(trainer.signal.scale, batch.group, band)
    variance = shell_values(trainer.signal.variance, batch.group, band)
    residual = (batch.data - model).abs().square() / variance
    exact = -0.5 * (band.multiplicity * (residual + variance.log())).sum(1)
    torch.testing.assert_close(found, exact, atol=0.05, rtol=1e-5)


def test_marginal_likelihood_is_the_log_mean_over_nodes(trainer: Trainer) -> None:
    _, _, scorer = scorer_of(trainer)
    latents = trainer.latents
    assert isinstance(latents, MarginalLatents)
    each = scores(trainer, latents.nodes)
    exact = torch.logsumexp(each, 1) - math.log(7)
    proposal = latents.propose(scorer, Draws(torch.Generator().manual_seed(0), N_IMAGES))
    found, _ = scorer.pairs(proposal.decoded, proposal.image, proposal.state)
    evidence = proposal.weighed(found).log_evidence
    assert evidence is not None
    assert float((evidence - exact).abs().max()) < 0.02 * float(each.std())


def test_gradient_of_the_drawn_pairs_is_that_of_the_marginal_likelihood(trainer: Trainer) -> None:
    """With as many draws as it takes, the step's gradient is autograd's of −log (1/K) Σ_k p(x |
    z_k)."""
    _, _, scorer = scorer_of(trainer)
    latents = MarginalLatents(1, 7, n_draws=20_000)
    parameters = [p for p in trainer.motion.parameters() if p.requires_grad]
    cross, power, _ = brute_force(trainer, latents.nodes)
    exact = torch.autograd.grad(
        -torch.logsumexp(cross - 0.5 * power, 1).mean(), parameters, allow_unused=True
    )

    proposal = latents.propose(scorer, Draws(torch.Generator().manual_seed(0), N_IMAGES))
    # the nodes' structures that were scored, with their gradient
    score, _ = scorer.pairs(proposal.decoded, proposal.image, proposal.state)
    loss = -(proposal.weight * score).sum() / N_IMAGES
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    compared = 0
    for ours, theirs in zip(found, exact, strict=True):
        if theirs is None:  # the posterior's width, which evaluation does not use
            assert ours is None
            continue
        assert ours is not None
        compared += 1
        assert float((ours - theirs).norm() / theirs.norm()) < 2e-2
    assert compared >= 7


def test_what_is_decoded_serves_scores_and_gradient(trainer: Trainer) -> None:
    _, _, scorer = scorer_of(trainer)
    z = torch.randn(5, trainer.motion.latent_dim)
    decoded = scorer.decode(z)
    assert decoded.positions.requires_grad
    assert not scorer.shared(decoded).requires_grad
    assert torch.equal(decoded.positions, trainer.decoder.decode(z))


def test_few_draws_give_the_same_gradient_on_average(trainer: Trainer) -> None:
    likelihood, prepared, scorer = scorer_of(trainer)
    generator = torch.Generator().manual_seed(0)
    assert isinstance(trainer.motion, SegmentsMotion)
    last = trainer.motion.decoder[-1].bias

    def gradient(n_draws: int) -> torch.Tensor:
        proposal = MarginalLatents(1, 7, n_draws=n_draws).propose(
            scorer, Draws(generator, N_IMAGES)
        )
        positions = trainer.decoder.decode(proposal.z)
        score, _ = likelihood.pairs(prepared, positions, proposal.image, proposal.state)
        (found,) = torch.autograd.grad((proposal.weight * score).sum(), last)
        return found

    exact = gradient(20_000)
    drawn = torch.stack([gradient(2) for _ in range(150)])
    standard_error = drawn.std(0) / 150**0.5
    assert float(drawn.std(0).max()) > 0
    assert bool(
        ((drawn.mean(0) - exact).abs() <= 4.5 * standard_error + 1e-3 * exact.abs().max()).all()
    )


def test_two_optics_groups_are_whitened_by_their_own_noise(trainer: Trainer) -> None:
    _, prepared, _ = scorer_of(trainer)
    variance = trainer.signal.variance.clone()
    variance[1] *= 4.0
    louder = Likelihood(
        trainer.forward,
        make_objective("gaussian"),
        type(trainer.signal)(trainer.signal.scale, variance),
    )
    changed = louder.prepare(prepared.batch)
    first, second = prepared.batch.group == 0, prepared.batch.group == 1
    torch.testing.assert_close(changed.norm[first], prepared.norm[first])
    torch.testing.assert_close(changed.norm[second], prepared.norm[second] / 4.0)
