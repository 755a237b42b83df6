"""The training loop: propose conformations, compare, step; estimate signal and noise; checkpoint;
resume exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kinesphere.errors import NumericalError
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.noise import ShellStatistics, SignalAndNoise
from kinesphere.inference.decoder import Decoder
from kinesphere.inference.draws import Draws, serve_shares
from kinesphere.inference.latents import LatentModel, Posterior, Proposal
from kinesphere.inference.likelihood import Likelihood, PreparedBatch, Scorer
from kinesphere.inference.objective import Objective
from kinesphere.motion.restraints import Restraint
from kinesphere.observations.observations import Observations, ParticleBatch
from kinesphere.observations.order import images_a_window, order_of_epoch
from kinesphere.observations.read_ahead import serve
from kinesphere.ranks import ALONE, Ranks
from kinesphere.runtime import InterruptedRunError, Interrupts
from kinesphere.training.between_epochs import prepare_epoch, teach_encoder
from kinesphere.training.checkpoints import read_state, restore_state, store_state
from kinesphere.training.dimension import held_out_images
from kinesphere.training.optimiser import add_up_gradients, make_optimizer, set_rates
from kinesphere.training.progress import Progress, hand_over_sums
from kinesphere.training.schedule import Schedule

_IMAGES_PER_NOISE_UPDATE = 4096
_BAD_STEPS_ALLOWED = 10
_STRUCTURES_RESTRAINED = 16
_STRUCTURES_STRAINED = 4
_SECONDS_BETWEEN_CHECKPOINTS = 600.0
_STEPS_BETWEEN_QUESTIONS = 8


@dataclass(frozen=True)
class Model:
    """The parts of the equation, and the prior on structures."""

    decoder: Decoder
    latents: LatentModel
    objective: Objective
    restraints: Restraint


@dataclass(frozen=True)
class Comparison:
    """A batch of images, compared with the conformations proposed for it.

    Parameters
    ----------
    proposal
        The conformations, weighted by what they explain.
    data_term
        This rank's part of the loss; differentiable.
    log_likelihood, factor
        (q,) and (q, m) of the pairs of an image and a structure: log-likelihoods, and structure
        factors without CTF.
    """

    proposal: Proposal
    data_term: Tensor
    log_likelihood: Tensor
    factor: Tensor


class Trainer:
    """Fits a motion model and its latents to images; the method is in the parts, not in here.

    Where there are several ranks, each has its share of every batch; gradients and all other sums
    over images are added up, and random numbers are drawn for the whole batch. So every rank takes
    the steps that one alone would take.

    Parameters
    ----------
    model
        Decoder, latents, data term, restraints.
    observations
        The images.
    forward
        Forward model on the observations' band.
    schedule
        When to do what, with how many images at once.
    seed, device
        As everywhere.
    checkpoints
        Folder for checkpoints; none to keep none.
    bystanders
        Images that train the encoder of the latents only, where there is one.
    chooses_dimension
        Whether the images decide how many latent dimensions are kept; some of them train nothing
        until that is done.
    ranks
        Who shares the images; may be replaced between calls.
    """

    def __init__(
        self,
        model: Model,
        observations: Observations,
        forward: ForwardModel,
        schedule: Schedule,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        checkpoints: Path | None = None,
        bystanders: Observations | None = None,
        chooses_dimension: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.observations = observations
        self.forward = forward
        self.schedule = schedule
        self.batch_size = schedule.batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.checkpoints = checkpoints
        self.bystanders = bystanders
        self.ranks = ranks
        self.decoder = model.decoder.to(self.device)
        self.motion = self.decoder.motion
        self.latents = model.latents.to(self.device)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = make_optimizer(self.motion, self.latents, schedule.config)
        self.progress = Progress()
        self.held_out = torch.zeros(0, dtype=torch.int64)
        if chooses_dimension:
            self.held_out = held_out_images(len(observations), seed)
        self.statistics_at_rest = self._statistics_at_rest()
        self.signal = SignalAndNoise.estimate(self.statistics_at_rest).to(self.device)
        self.statistics = ShellStatistics(forward.band, observations.n_groups)

    @torch.no_grad()
    def _statistics_at_rest(self) -> ShellStatistics:
        """Compare the images with the nominal model in their poses: where signal scale and noise
        power start from.
        """
        statistics = ShellStatistics(self.forward.band, self.observations.n_groups)
        batches = self.ranks.share(self.observations.sample()).split(max(self.batch_size, 256))
        for batch in serve(self.observations, batches, device=self.device):
            factor = self.forward.structure_factor(self.decoder.at_rest @ batch.rotation[:, :, :2])
            model = factor * self.forward.transfer(batch.ctf)
            statistics.add_data(batch.group, batch.data)
            statistics.add_model(
                batch.group, batch.data, model, torch.ones_like(batch.rotation[:, 0, 0])
            )
        self.ranks.sum_(statistics.sums)
        return statistics

    def fit(
        self,
        interrupts: Interrupts | None = None,
        report: Callable[[dict[str, float]], None] | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        """Train to the end of the schedule, from wherever `progress` is.

        Parameters
        ----------
        interrupts
            Asked after every step; on a request to any rank a checkpoint is written and the
            interrupt raised.
        report
            Called with the metrics of each finished epoch.
        advance
            Called with the number of images of each finished step.
        """
        progress = self.progress
        while not progress.finished:
            metrics = self._epoch(interrupts, advance)
            if self.schedule.is_full_resolution(progress.epoch):
                progress.log_likelihoods.append(metrics["log_likelihood"])
            else:
                progress.coarse_log_likelihoods.append(metrics["log_likelihood"])
                self.schedule.settle(progress.coarse_log_likelihoods)
            progress.history.append(metrics)
            progress.begin_epoch()
            stop = self.schedule.should_stop(progress.log_likelihoods)
            progress.finished = stop or progress.epoch >= self.schedule.epochs
            self.save()
            if report is not None:
                report(metrics)

    def _epoch(
        self, interrupts: Interrupts | None, advance: Callable[[int], None] | None
    ) -> dict[str, float]:
        """Go through the images once, from wherever `progress` is in the epoch."""
        progress = self.progress
        started = time.monotonic()
        saved = started
        first = progress.batch
        self.motion.train()
        self.latents.train()
        # machines of different kinds round differently: what was learnt must not drift apart
        self.ranks.copy_first_(
            [*self.motion.state_dict().values(), *self.latents.state_dict().values()]
        )
        self.latents.exchange(self.ranks)
        if first == 0:
            prepare_epoch(self)
        anew = first == 0 and self.schedule.changes_much(progress.epoch)
        self.latents.begin_epoch(progress.epoch, len(self.observations), anew=anew)
        likelihood = self.likelihood(progress.epoch)
        batches = self.batches(progress.epoch)
        for batch, draws in self.shares(self.observations, batches, likelihood.forward.band, first):
            self._step(likelihood, batch, draws)
            progress.batch += 1
            if advance is not None:
                advance(draws.n_images)
            is_last = progress.batch == len(batches)
            if is_last or progress.totals["since_update"] >= _IMAGES_PER_NOISE_UPDATE:
                self._update_signal(likelihood)
            saved = self._save_where_due(saved, interrupts)
        teach_encoder(self, likelihood)
        progress.add_up(self.ranks)
        return progress.summary(
            shells=float(self.schedule.n_shells(progress.epoch)),
            model_divergence=float(self.motion.divergence().detach()),
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=time.monotonic() - started,
            n_images=(len(batches) - first) * self.batch_size,
        )

    def likelihood(self, epoch: int) -> Likelihood:
        """Return the likelihood at the resolution of an epoch, with signal and noise as they are
        now.
        """
        n_shells = self.schedule.n_shells(epoch)
        is_full = n_shells == self.schedule.n_shells_full
        forward = self.forward if is_full else self.forward.coarser(n_shells)
        return Likelihood(forward, self.model.objective, self.signal)

    def turn(self, basis: Float[Tensor, "d e"]) -> None:
        """Go over to other latents e, with z = basis · e; what the optimiser remembers is lost."""
        self.motion.turn(basis.to(self.device))
        self.latents.turn(basis.to(self.device))
        self.optimizer = make_optimizer(self.motion, self.latents, self.schedule.config)

    def set_latent_dim(self, latent_dim: int) -> None:
        """Go over to another number of latent dimensions: the first of those there are, or further
        ones in which nothing moves.
        """
        if latent_dim != self.latents.latent_dim:
            self.turn(torch.eye(self.latents.latent_dim, latent_dim))

    def _save_where_due(self, saved: float, interrupts: Interrupts | None) -> float:
        """Save now and then, and on an interrupt, which then is raised; all ranks together. Returns
        when was saved.
        """
        if self.ranks.size > 1 and self.progress.step % _STEPS_BETWEEN_QUESTIONS > 0:
            return saved  # to agree costs the ranks a wait for the slowest
        signal = interrupts.signal_number if interrupts is not None else None
        asked, elapsed = self.ranks.largest(float(signal or 0), time.monotonic() - saved)
        if not asked and elapsed < _SECONDS_BETWEEN_CHECKPOINTS:
            return saved
        self.save()
        if asked:
            self.ranks.barrier()  # the first writes
            raise InterruptedRunError(int(asked))
        return time.monotonic()

    def shares(
        self,
        observations: Observations,
        batches: Sequence[Tensor],
        band: FourierBand,
        first: int = 0,
    ) -> Iterator[tuple[ParticleBatch, Draws]]:
        """Serve this rank's share of each batch, with the random numbers of the whole."""
        return serve_shares(
            observations, batches, self.generator, self.ranks, band, self.device, first=first
        )

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """Divide the images of an epoch into batches, in its order."""
        window = images_a_window(len(self.observations.band))
        order = order_of_epoch(len(self.observations), window, self.seed, epoch)
        if len(self.held_out) and not self.schedule.is_full_resolution(epoch):
            order = order[~torch.isin(order, self.held_out)]
        return order.split(self.batch_size)

    def _step(self, likelihood: Likelihood, batch: ParticleBatch, draws: Draws) -> None:
        """Take one step: propose and compare, add the priors, follow the gradient, count."""
        set_rates(
            self.optimizer,
            self.schedule.learning_rate_factor(self.progress.step),
            networks_learn=self.schedule.config.networks_learn(self.progress.epoch),
        )
        self.motion.resample(self.generator)
        prepared = likelihood.prepare(batch)
        comparison = self.compare(prepared, likelihood, draws)
        loss = comparison.data_term + self._prior(comparison.proposal, draws)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.gradients_are_finite(loss):
            self.optimizer.step()
            # what is not finite must not reach the noise estimate either, which all later batches
            # are scored with
            self._account(prepared, comparison, draws)
        self.progress.step += 1

    def compare(self, prepared: PreparedBatch, likelihood: Likelihood, draws: Draws) -> Comparison:
        """Propose conformations for a batch, decode them, and compare them with its images."""
        scorer = Scorer(likelihood, prepared, self.decoder)
        proposal = self.latents.propose(scorer, draws)
        log_likelihood, factor = scorer.pairs(proposal.decoded, proposal.image, proposal.state)
        weighed = proposal.weighed(log_likelihood)
        data_term = -draws.weight * (weighed.weight * log_likelihood).sum() / draws.n_images
        return Comparison(weighed, data_term, log_likelihood.detach(), factor.detach())

    def _prior(self, proposal: Proposal, draws: Draws) -> Tensor:
        """KL terms and restraints, per image: a global parameter's KL is shared by all images of
        the set.
        """
        weight = draws.weight * self.schedule.divergence_weight(self.progress.step) / draws.n_images
        # what is the same on all ranks is divided among them: their sum is the loss
        of_model = self.motion.divergence() / (len(self.observations) * self.ranks.size)
        total = weight * proposal.divergence.sum() + of_model
        if self.model.restraints.active:
            # a few structures at random: the mean's expectation at a fraction of its cost
            some = draws.some(proposal.n_states(draws), _STRUCTURES_RESTRAINED)
            rows, share = proposal.own(some, draws)
            structures = proposal.decoded.structures(rows)
            total = total + share * self.model.restraints.energy(structures).sum()
            rows, share = proposal.own(some[:_STRUCTURES_STRAINED], draws)
            strain = self.motion.strain(proposal.z[rows], self.generator)
            total = total if strain is None else total + share * strain.sum()
        return total

    def gradients_are_finite(self, loss: Tensor) -> bool:
        """Add up the gradients of all ranks, and tell whether a step can be taken along them."""
        if add_up_gradients(self.optimizer, loss, self.ranks):
            self.progress.bad_steps = 0
            return True
        self.progress.bad_steps += 1
        if self.progress.bad_steps > _BAD_STEPS_ALLOWED:
            where = f"step {self.progress.step}"
            raise NumericalError(
                f"loss or gradient not finite in {self.progress.bad_steps} steps in a row ({where})"
            )
        return False

    @torch.no_grad()
    def _account(self, prepared: PreparedBatch, comparison: Comparison, draws: Draws) -> None:
        """Add a step to the epoch's sums: what is reported, and what signal and noise are estimated
        from.
        """
        self.progress.count(draws.n_images)
        if draws.is_idle:
            return
        batch = prepared.batch
        proposal = comparison.proposal
        if proposal.log_evidence is not None:
            evidence = proposal.log_evidence.sum()
        else:
            explained = (proposal.weight * comparison.log_likelihood).sum()
            evidence = explained - proposal.divergence.sum()
        if self.model.objective.whitened:
            evidence = evidence + (prepared.log_constant - 0.5 * prepared.norm).sum()
        self.progress.add(
            log_likelihood=float(evidence),
            divergence=float(proposal.divergence.sum()),
            pairs=float(len(proposal.image)),
        )
        pairs = (comparison.factor, proposal.image, proposal.weight)
        self.statistics.add_batch(batch.group, batch.data, prepared.transfer, *pairs)

    def _update_signal(self, likelihood: Likelihood) -> None:
        """Estimate signal and noise from the images since the last update; shells beyond the stage
        stay as they are.
        """
        self.progress.totals["since_update"] = 0.0
        self.ranks.sum_(self.statistics.sums)
        self.signal = self.signal.updated(self.statistics, likelihood.forward.band.n_shells)
        likelihood.signal = self.signal
        self.statistics = ShellStatistics(self.forward.band, self.observations.n_groups)

    @torch.no_grad()
    def infer(
        self, observations: Observations | None = None, report: Callable[[int], None] | None = None
    ) -> Posterior:
        """Posterior of every image at full resolution with everything learnt held fixed;
        deterministic.
        """
        images = observations or self.observations
        self.motion.eval()
        self.latents.eval()
        likelihood = Likelihood(self.forward, self.model.objective, self.signal)
        n_images = len(images)
        n_dim = self.latents.latent_dim
        mean = torch.zeros(n_images, n_dim, device=self.device)
        covariance = torch.zeros(n_images, n_dim, n_dim, device=self.device)
        shares = self.ranks.share(torch.arange(n_images)).split(self.batch_size)
        batches = [rows for rows in shares if len(rows) > 0]
        for rows, batch in zip(batches, serve(images, batches, device=self.device), strict=True):
            scorer = Scorer(likelihood, likelihood.prepare(batch), self.decoder)
            posterior = self.latents.posterior(scorer)
            mean[rows] = posterior.mean
            covariance[rows] = posterior.covariance
            if report is not None:
                report(len(rows) * self.ranks.size)
        self.ranks.sum_([mean, covariance])  # each row is on one rank, and zero on the others
        return Posterior(mean.cpu(), covariance.cpu())

    def save(self) -> None:
        """Write a checkpoint from which training goes on as if it had never stopped, on any number
        of ranks.
        """
        if self.checkpoints is not None:
            hand_over_sums(self.progress, self.statistics, self.ranks)
            self.latents.exchange(self.ranks)
            if self.ranks.is_first:
                store_state(self, self.checkpoints)

    def resume(self) -> None:
        """Go on from the latest checkpoint."""
        folder = self.checkpoints
        if folder is not None:
            restore_state(self, self.ranks.from_first(lambda: read_state(folder)), folder)
