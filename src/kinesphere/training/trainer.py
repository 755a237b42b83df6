"""The training loop: propose conformations, compare, step; estimate signal and noise; checkpoint;
resume exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kinesphere.errors import NumericalError
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.noise import ShellStatistics, SignalAndNoise
from kinesphere.inference.draws import Draws, serve_shares
from kinesphere.inference.latents import LatentModel, Posterior, Proposal
from kinesphere.inference.likelihood import Likelihood, PreparedBatch, Scorer
from kinesphere.inference.objective import Objective
from kinesphere.motion.base import Motion
from kinesphere.motion.reference import Reference
from kinesphere.motion.restraints import Restraint
from kinesphere.observations.observations import Observations, ParticleBatch
from kinesphere.observations.order import images_a_window, order_of_epoch
from kinesphere.observations.read_ahead import serve
from kinesphere.ranks import ALONE, Ranks
from kinesphere.runtime import InterruptedRunError, Interrupts
from kinesphere.training.checkpoints import read_state, restore_state, store_state
from kinesphere.training.optimiser import add_up_gradients, gradient_norm, make_optimizer, set_rates
from kinesphere.training.progress import Compared, Progress, hand_over_sums
from kinesphere.training.schedule import Schedule

_IMAGES_PER_NOISE_UPDATE = 4096
_BAD_STEPS_ALLOWED = 10
_STRUCTURES_RESTRAINED = 16
_STRUCTURES_STRAINED = 4
_SECONDS_BETWEEN_CHECKPOINTS = 600.0
_STEPS_BETWEEN_QUESTIONS = 8
_IMAGES_FOR_REFERENCE = 100
_LARGEST_CHANGE_OF_BALANCE = 10.0


@dataclass(frozen=True)
class Model:
    """The parts of the equation, and the prior on structures."""

    motion: Motion
    latents: LatentModel
    reference: Reference
    objective: Objective
    restraints: Restraint


class Trainer:
    """Fits a motion model and its latents to images; the method is in the parts, not in here.

    Where there are several ranks, each has its share of every batch; gradients and all other sums
    over images are added up, and random numbers are drawn for the whole batch. So every rank takes
    the steps that one alone would take.

    Parameters
    ----------
    model
        Motion, latents, reference structure, data term, restraints.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.bystanders, self.ranks = bystanders, ranks
        self.model, self.observations, self.schedule = model, observations, schedule
        self.seed, self.batch_size = seed, schedule.batch_size
        self.device, self.checkpoints = torch.device(device), checkpoints
        self.motion, self.latents = model.motion.to(self.device), model.latents.to(self.device)
        self._beads = model.reference.beads.to(self.device)
        self.bead_owner = model.reference.bead_owner.to(self.device)
        self.forward = forward
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = make_optimizer(self.motion, self.latents, schedule.config)
        self.progress = Progress()
        self.statistics_at_rest = self._statistics_at_rest()
        self.signal = SignalAndNoise.estimate(self.statistics_at_rest).to(self.device)
        self.statistics = ShellStatistics(forward.band, observations.n_groups)

    @property
    def beads(self) -> Tensor:
        """(n_beads, 3) the Gaussians in the reference state as it is now, in Å."""
        return self.motion.at_rest(self._beads)

    @torch.no_grad()
    def _statistics_at_rest(self) -> ShellStatistics:
        """Compare the images with the nominal model in their poses: where signal scale and noise
        power start from.
        """
        statistics = ShellStatistics(self.forward.band, self.observations.n_groups)
        batches = self.ranks.share(self.observations.sample()).split(max(self.batch_size, 256))
        for batch in serve(self.observations, batches, device=self.device):
            factor = self.forward.structure_factor(self.beads @ batch.rotation[:, :, :2])
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
        progress, started, saved = self.progress, time.monotonic(), time.monotonic()
        first = progress.batch
        self.motion.train()
        self.latents.train()
        # machines of different kinds round differently: what was learnt must not drift apart
        self.ranks.copy_first_(
            [*self.motion.state_dict().values(), *self.latents.state_dict().values()]
        )
        self.latents.exchange(self.ranks)
        if first == 0:
            self._begin_epoch()
        anew = first == 0 and self.schedule.changes_much(progress.epoch)
        self.latents.begin_epoch(progress.epoch, len(self.observations), anew=anew)
        n_shells = self.schedule.n_shells(progress.epoch)
        forward = (
            self.forward
            if n_shells == self.schedule.n_shells_full
            else self.forward.coarser(n_shells)
        )
        likelihood = Likelihood(forward, self.model.objective, self.signal)
        batches = self._batches(progress.epoch)
        for batch, draws in self._shares(self.observations, batches, forward.band, first):
            self._step(likelihood, batch, draws)
            progress.batch += 1
            if advance is not None:
                advance(draws.n_images)
            if progress.totals["since_update"] >= _IMAGES_PER_NOISE_UPDATE or progress.batch == len(
                batches
            ):
                self._update_signal(likelihood)
            saved = self._save_where_due(saved, interrupts)
        self._teach_encoder(likelihood)
        seconds = time.monotonic() - started
        return self._summary(n_shells, len(batches) - first, seconds)

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

    def _teach_encoder(self, likelihood: Likelihood) -> None:
        """Let images that train no motion train the encoder, so that it reads them as well as the
        others.
        """
        if self.bystanders is None or not any(True for _ in self.latents.parameters()):
            return
        batches = torch.arange(len(self.bystanders)).split(self.batch_size)
        for batch, draws in self._shares(self.bystanders, batches, likelihood.forward.band):
            proposal, data_term, _ = self._compare(likelihood.prepare(batch), likelihood, draws)
            weight = (
                draws.weight * self.schedule.divergence_weight(self.progress.step) / draws.n_images
            )
            loss = data_term + weight * proposal.divergence.sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for parameter in self.motion.parameters():
                parameter.grad = None  # what has no gradient, the optimiser leaves alone
            if self._gradients_are_finite(loss):
                self.optimizer.step()

    def _begin_epoch(self) -> None:
        """Do what is due between epochs: a new reference, the restraints' view of it, and their
        weight.
        """
        if self.schedule.config.replaces_reference(self.progress.epoch):
            self.motion.replace_reference(self._nearest_to_consensus())
        restraints = self.model.restraints
        restraints.follow(self.motion.reference)
        if restraints.active and restraints.balance is not None and self.progress.epoch > 0:
            self._balance(restraints, restraints.balance)

    @torch.no_grad()
    def _nearest_to_consensus(self) -> Tensor:
        """Latent position, among those of some images, whose state has moved least from where the
        Gaussians started.
        """
        rows = (
            torch.linspace(0, len(self.observations) - 1, _IMAGES_FOR_REFERENCE)
            .round()
            .long()
            .unique()
        )
        candidates = self.infer(self.observations.subset(rows)).mean.to(self.device)
        moved = (
            (self.motion.move(candidates, self.beads, self.bead_owner) - self._beads)
            .square()
            .sum((1, 2))
        )
        self.motion.train()
        self.latents.train()
        return candidates[int(moved.argmin())]

    def _balance(self, restraints: Restraint, ratio: float) -> None:
        """Scale the restraints so that the norms of their gradient and the data term's have a given
        ratio.
        """
        likelihood = Likelihood(self.forward, self.model.objective, self.signal)
        batches = self._batches(self.progress.epoch)[:1]
        batch, draws = next(self._shares(self.observations, batches, self.forward.band))
        proposal, data_term, compared = self._compare(likelihood.prepare(batch), likelihood, draws)
        own, weight = proposal.own(torch.arange(proposal.n_states(draws)), draws)
        energy = weight * restraints.energy(compared.states[own].move_reference()).sum()
        of_data, of_restraints = (
            gradient_norm(loss, list(self.motion.parameters()), self.ranks)
            for loss in (data_term, energy)
        )
        if of_restraints > 0 and math.isfinite(of_data / of_restraints):
            limit = _LARGEST_CHANGE_OF_BALANCE
            restraints.rescale(min(max(ratio * of_data / of_restraints, 1.0 / limit), limit))

    def _shares(
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

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        window = images_a_window(len(self.observations.band))
        return order_of_epoch(len(self.observations), window, self.seed, epoch).split(
            self.batch_size
        )

    def _step(self, likelihood: Likelihood, batch: ParticleBatch, draws: Draws) -> None:
        networks_learn = self.schedule.config.networks_learn(self.progress.epoch)
        set_rates(
            self.optimizer,
            self.schedule.learning_rate_factor(self.progress.step),
            networks_learn=networks_learn,
        )
        self.motion.resample(self.generator)
        prepared = likelihood.prepare(batch)
        proposal, data_term, compared = self._compare(prepared, likelihood, draws)
        loss = data_term + self._prior(proposal, compared, draws)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._gradients_are_finite(loss):
            self.optimizer.step()
            # what is not finite must not reach the noise estimate either, which all later batches
            # are scored with
            self._account(prepared, proposal, compared, draws)
        self.progress.step += 1

    def _compare(
        self, prepared: PreparedBatch, likelihood: Likelihood, draws: Draws
    ) -> tuple[Proposal, Tensor, Compared]:
        """Propose conformations for a batch, and compare: the data term, and what it was made
        from.
        """
        beads, likelihood = self.beads, likelihood.weighted(self.motion.bead_weight())
        scorer = Scorer(likelihood, prepared, self.motion, beads, self.bead_owner)
        proposal = self.latents.propose(scorer, draws)
        positions = scorer.decode(proposal.z)
        log_likelihood, factor = likelihood.pairs(
            prepared, positions, proposal.image, proposal.state
        )
        proposal = proposal.weighed(log_likelihood)
        data_term = -draws.weight * (proposal.weight * log_likelihood).sum() / draws.n_images
        compared = Compared(
            scorer.states(proposal.z), positions, log_likelihood.detach(), factor.detach()
        )
        return proposal, data_term, compared

    def _prior(self, proposal: Proposal, compared: Compared, draws: Draws) -> Tensor:
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
            own, weight = proposal.own(some, draws)
            # where y⁰ is what is rendered, the structures are there already
            if self.motion.learns_reference:
                structures = compared.positions.index_select(0, own)
            else:
                structures = compared.states[own].move_reference()
            total = total + weight * self.model.restraints.energy(structures).sum()
            own, weight = proposal.own(some[:_STRUCTURES_STRAINED], draws)
            strain = self.motion.strain(proposal.z[own], self.generator)
            total = total if strain is None else total + weight * strain.sum()
        return total

    def _gradients_are_finite(self, loss: Tensor) -> bool:
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
    def _account(
        self, prepared: PreparedBatch, proposal: Proposal, compared: Compared, draws: Draws
    ) -> None:
        """Add a step to the epoch's sums: what is reported, and what signal and noise are estimated
        from.
        """
        self.progress.count(draws.n_images)
        if draws.is_idle:
            return
        batch = prepared.batch
        if proposal.log_evidence is not None:
            evidence = proposal.log_evidence.sum()
        else:
            evidence = (proposal.weight * compared.log_likelihood).sum() - proposal.divergence.sum()
        constant = (
            (prepared.log_constant - 0.5 * prepared.norm).sum()
            if self.model.objective.whitened
            else 0.0
        )
        self.progress.add(
            log_likelihood=float(evidence + constant),
            divergence=float(proposal.divergence.sum()),
            pairs=float(len(proposal.image)),
        )
        pairs = (compared.factor, proposal.image, proposal.weight)
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

    def _summary(self, n_shells: int, n_batches: int, seconds: float) -> dict[str, float]:
        self.progress.add_up(self.ranks)
        totals = self.progress.totals
        images = max(totals["images"], 1.0)
        return {
            "epoch": float(self.progress.epoch + 1),
            "step": float(self.progress.step),
            "shells": float(n_shells),
            "log_likelihood": totals["log_likelihood"] / images,
            "divergence": totals["divergence"] / images,
            "model_divergence": float(self.motion.divergence().detach()),
            "pairs_per_image": totals["pairs"] / images,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
            "images_per_second": n_batches * self.batch_size / max(seconds, 1e-9),
        }

    @torch.no_grad()
    def infer(
        self, observations: Observations | None = None, report: Callable[[int], None] | None = None
    ) -> Posterior:
        """Posterior of every image at full resolution with everything learnt held fixed;
        deterministic.
        """
        observations = observations or self.observations
        self.motion.eval()
        self.latents.eval()
        likelihood = Likelihood(
            self.forward.weighted(self.motion.bead_weight()), self.model.objective, self.signal
        )
        n, d = len(observations), self.latents.latent_dim
        mean, covariance = (torch.zeros(shape, device=self.device) for shape in ((n, d), (n, d, d)))
        own = [
            rows
            for rows in self.ranks.share(torch.arange(n)).split(self.batch_size)
            if len(rows) > 0
        ]
        for rows, batch in zip(own, serve(observations, own, device=self.device), strict=True):
            scorer = Scorer(
                likelihood, likelihood.prepare(batch), self.motion, self.beads, self.bead_owner
            )
            found = self.latents.posterior(scorer)
            mean[rows], covariance[rows] = found.mean, found.covariance
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
