"""The training loop: propose conformations, compare, step; estimate signal and noise; checkpoint; resume exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from kinesphere.errors import NumericalError
from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.noise import ShellStatistics, SignalAndNoise
from kinesphere.inference.latents import LatentModel, Posterior, Proposal
from kinesphere.inference.likelihood import Likelihood, PreparedBatch, Scorer
from kinesphere.inference.objective import Objective
from kinesphere.inference.observations import Observations, ParticleBatch
from kinesphere.inference.order import images_a_window, order_of_epoch
from kinesphere.inference.read_ahead import serve
from kinesphere.inference.schedule import Schedule
from kinesphere.inference.training_state import restore_state, store_state
from kinesphere.motion.base import Motion
from kinesphere.motion.reference import Reference
from kinesphere.motion.restraints import Restraint
from kinesphere.runtime import Interrupts

_IMAGES_PER_NOISE_UPDATE = 4096
_BAD_STEPS_ALLOWED = 10
_STRUCTURES_RESTRAINED = 16
_STRUCTURES_STRAINED = 4
_SECONDS_BETWEEN_CHECKPOINTS = 600.0
_IMAGES_FOR_REFERENCE = 100
_LARGEST_CHANGE_OF_BALANCE = 10.0
_TOTALS = ("images", "since_update", "log_likelihood", "divergence", "pairs")


@dataclass
class Progress:
    """Where training is: everything that is neither a parameter nor the optimiser's."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    bad_steps: int = 0
    log_likelihoods: list[float] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_TOTALS, 0.0))
    history: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class Model:
    """The parts of the equation, and the prior on structures."""

    motion: Motion
    latents: LatentModel
    reference: Reference
    objective: Objective
    restraints: Restraint


@dataclass(frozen=True)
class Compared:
    """What a step has compared.

    Parameters
    ----------
    positions
        (k, n_beads, 3) the proposed structures, differentiable.
    log_likelihood, factor
        (q,) and (q, m) of the pairs of an image and a structure: log-likelihoods, and structure factors without CTF.
    """

    positions: Tensor
    log_likelihood: Tensor
    factor: Tensor


class Trainer:
    """Fits a motion model and its latents to images; the method is in the parts, not in here.

    Parameters
    ----------
    model
        Motion, latents, reference structure, data term, restraints.
    observations
        The images.
    forward
        Forward model on the observations' band.
    schedule
        When to do what.
    seed, batch_size, device
        As everywhere.
    checkpoints
        Folder for checkpoints; none to keep none.
    bystanders
        Images that train the encoder of the latents only, where there is one.
    """

    def __init__(
        self,
        model: Model,
        observations: Observations,
        forward: ForwardModel,
        schedule: Schedule,
        *,
        seed: int = 0,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
        checkpoints: Path | None = None,
        bystanders: Observations | None = None,
    ) -> None:
        self.bystanders = bystanders
        self.model, self.observations, self.schedule = model, observations, schedule
        self.seed, self.batch_size, self.device, self.checkpoints = seed, batch_size, torch.device(device), checkpoints
        self.motion, self.latents = model.motion.to(self.device), model.latents.to(self.device)
        self._beads = model.reference.beads.to(self.device)
        self.bead_owner = model.reference.bead_owner.to(self.device)
        self.forward = forward
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(self._parameter_groups(), fused=True)
        self.progress = Progress()
        self.statistics_at_rest = self._statistics_at_rest()
        self.signal = SignalAndNoise.estimate(self.statistics_at_rest).to(self.device)
        self.statistics = ShellStatistics(forward.band, observations.n_groups)

    @property
    def beads(self) -> Tensor:
        """(n_beads, 3) the Gaussians in the reference state as it is now, in Å."""
        return self.motion.at_rest(self._beads)

    def _parameter_groups(self) -> list[dict[str, object]]:
        """Networks learn at one rate; a motion model may name parameters that learn at another."""
        config = self.schedule.config
        slow = list(self.motion.structural_parameters())
        named = {id(p) for p in slow}
        rest = [p for p in self.motion.parameters() if id(p) not in named] + list(self.latents.parameters())
        groups = [(rest, config.learning_rate, True), (slow, config.structural_learning_rate, False)]
        return [
            {"params": params, "lr": rate, "peak": rate, "is_network": is_network}
            for params, rate, is_network in groups
            if params
        ]

    @torch.no_grad()
    def _statistics_at_rest(self) -> ShellStatistics:
        """Compare the images with the nominal model in their poses: where signal scale and noise power start from."""
        statistics = ShellStatistics(self.forward.band, self.observations.n_groups)
        batches = self.observations.sample().split(max(self.batch_size, 256))
        for batch in serve(self.observations, batches, device=self.device):
            factor = self.forward.structure_factor(self.beads @ batch.rotation[:, :, :2])
            model = factor * self.forward.transfer(batch.ctf)
            statistics.add_data(batch.group, batch.data)
            statistics.add_model(batch.group, batch.data, model, torch.ones_like(batch.rotation[:, 0, 0]))
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
            Asked after every step; on a request a checkpoint is written and the interrupt raised.
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
            progress.epoch, progress.batch, progress.totals = progress.epoch + 1, 0, dict.fromkeys(_TOTALS, 0.0)
            stop = self.schedule.should_stop(progress.log_likelihoods)
            progress.finished = stop or progress.epoch >= self.schedule.epochs
            self.save()
            if report is not None:
                report(metrics)

    def _epoch(self, interrupts: Interrupts | None, advance: Callable[[int], None] | None) -> dict[str, float]:
        progress, started, saved = self.progress, time.monotonic(), time.monotonic()
        first = progress.batch
        self.motion.train()
        self.latents.train()
        if first == 0:
            self._begin_epoch()
        n_shells = self.schedule.n_shells(progress.epoch)
        forward = self.forward if n_shells == self.schedule.n_shells_full else self.forward.coarser(n_shells)
        likelihood = Likelihood(forward, self.model.objective, self.signal)
        batches = self._batches(progress.epoch)
        for batch in serve(self.observations, batches, forward.band, self.device, first=first):
            self._step(likelihood, batch)
            progress.batch += 1
            if advance is not None:
                advance(len(batch))
            if progress.totals["since_update"] >= _IMAGES_PER_NOISE_UPDATE or progress.batch == len(batches):
                self._update_signal(likelihood)
            if interrupts is not None and interrupts.requested:
                self.save()
                interrupts.raise_if_requested()
            if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                self.save()
                saved = time.monotonic()
        self._teach_encoder(likelihood)
        seconds = time.monotonic() - started
        return self._summary(n_shells, len(batches) - first, seconds)

    def _teach_encoder(self, likelihood: Likelihood) -> None:
        """Let images that train no motion train the encoder, so that it reads them as well as the others."""
        if self.bystanders is None or not any(True for _ in self.latents.parameters()):
            return
        batches = torch.arange(len(self.bystanders)).split(self.batch_size)
        for batch in serve(self.bystanders, batches, likelihood.forward.band, self.device):
            prepared = likelihood.prepare(batch)
            proposal, data_term, _ = self._compare(prepared, likelihood)
            loss = data_term + self.schedule.divergence_weight(self.progress.step) * proposal.divergence.mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for parameter in self.motion.parameters():
                parameter.grad = None  # what has no gradient, the optimiser leaves alone
            if self._gradients_are_finite(loss):
                self.optimizer.step()

    def _begin_epoch(self) -> None:
        """Do what is due between epochs: a new reference, the restraints' view of it, and their weight."""
        if self.schedule.config.replaces_reference(self.progress.epoch):
            self.motion.replace_reference(self._nearest_to_consensus())
        restraints = self.model.restraints
        restraints.follow(self.motion.reference)
        if restraints.active and restraints.balance is not None and self.progress.epoch > 0:
            self._balance(restraints, restraints.balance)

    @torch.no_grad()
    def _nearest_to_consensus(self) -> Tensor:
        """Latent position, among those of some images, whose state has moved least from where the Gaussians started."""
        rows = torch.linspace(0, len(self.observations) - 1, _IMAGES_FOR_REFERENCE).round().long().unique()
        candidates = self.infer(self.observations.subset(rows)).mean.to(self.device)
        moved = (self.motion.move(candidates, self.beads, self.bead_owner) - self._beads).square().sum((1, 2))
        self.motion.train()
        self.latents.train()
        return candidates[int(moved.argmin())]

    def _balance(self, restraints: Restraint, ratio: float) -> None:
        """Scale the restraints so that the norms of their gradient and the data term's have a given ratio."""
        likelihood = Likelihood(self.forward, self.model.objective, self.signal)
        batch = self.observations.batch(self._batches(self.progress.epoch)[0], device=self.device)
        proposal, data_term, _ = self._compare(likelihood.prepare(batch), likelihood)
        of_data = self._gradient_norm(data_term)
        of_restraints = self._gradient_norm(restraints.energy(self.motion(proposal.z)).mean())
        if of_restraints > 0 and math.isfinite(of_data / of_restraints):
            limit = _LARGEST_CHANGE_OF_BALANCE
            restraints.rescale(min(max(ratio * of_data / of_restraints, 1.0 / limit), limit))

    def _gradient_norm(self, loss: Tensor) -> float:
        parameters = list(self.motion.parameters())
        return float(nn.utils.get_total_norm(torch.autograd.grad(loss, parameters, materialize_grads=True)))

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        window = images_a_window(len(self.observations.band))
        return order_of_epoch(len(self.observations), window, self.seed, epoch).split(self.batch_size)

    def _step(self, likelihood: Likelihood, batch: ParticleBatch) -> None:
        factor_of_rate = self.schedule.learning_rate_factor(self.progress.step)
        networks_learn = self.schedule.config.networks_learn(self.progress.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor_of_rate if networks_learn or not group["is_network"] else 0.0
        self.motion.resample(self.generator)
        prepared = likelihood.prepare(batch)
        proposal, data_term, compared = self._compare(prepared, likelihood)
        loss = data_term + self._prior(proposal, compared.positions)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._gradients_are_finite(loss):
            self.optimizer.step()
            # what is not finite must not reach the noise estimate either, which all later batches are scored with
            self._account(prepared, proposal, compared)
        self.progress.step += 1

    def _compare(self, prepared: PreparedBatch, likelihood: Likelihood) -> tuple[Proposal, Tensor, Compared]:
        """Propose conformations for a batch, and compare: the data term, and what it was made from."""
        beads, likelihood = self.beads, likelihood.weighted(self.motion.bead_weight())
        scorer = Scorer(likelihood, prepared, self.motion, beads, self.bead_owner)
        proposal = self.latents.propose(scorer, self.generator)
        positions = self.motion.move(proposal.z, beads, self.bead_owner)
        log_likelihood, factor = likelihood.pairs(prepared, positions, proposal.image, proposal.state)
        data_term = -(proposal.weight * log_likelihood).sum() / len(prepared.batch)
        return proposal, data_term, Compared(positions, log_likelihood.detach(), factor.detach())

    def _prior(self, proposal: Proposal, positions: Tensor) -> Tensor:
        """KL terms and restraints, per image: a global parameter's KL is shared by all images of the set."""
        weight = self.schedule.divergence_weight(self.progress.step)
        total = weight * proposal.divergence.mean() + self.motion.divergence() / len(self.observations)
        if self.model.restraints.active:
            # a few structures at random: the mean's expectation at a fraction of its cost
            some = torch.randperm(len(proposal.z), generator=self.generator)[:_STRUCTURES_RESTRAINED]
            some = some.to(self.device)
            z = proposal.z[some]
            # where y⁰ is what is rendered, the structures are there already
            structures = positions[some] if self.motion.learns_reference else self.motion(z)
            total = total + self.model.restraints.energy(structures).mean()
            strain = self.motion.strain(z[:_STRUCTURES_STRAINED], self.generator)
            total = total if strain is None else total + strain.mean()
        return total

    def _gradients_are_finite(self, loss: Tensor) -> bool:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if bool(torch.isfinite(loss)) and bool(torch.isfinite(norm)):
            self.progress.bad_steps = 0
            return True
        self.progress.bad_steps += 1
        if self.progress.bad_steps > _BAD_STEPS_ALLOWED:
            where = f"step {self.progress.step}"
            raise NumericalError(f"loss or gradient not finite in {self.progress.bad_steps} steps in a row ({where})")
        return False

    @torch.no_grad()
    def _account(self, prepared: PreparedBatch, proposal: Proposal, compared: Compared) -> None:
        """Add a step to the epoch's sums: what is reported, and what signal and noise are estimated from."""
        batch = prepared.batch
        if proposal.log_evidence is not None:
            evidence = proposal.log_evidence.sum()
        else:
            evidence = (proposal.weight * compared.log_likelihood).sum() - proposal.divergence.sum()
        constant = (prepared.log_constant - 0.5 * prepared.norm).sum() if self.model.objective.whitened else 0.0
        sums = {
            "images": float(len(batch)),
            "since_update": float(len(batch)),
            "log_likelihood": float(evidence + constant),
            "divergence": float(proposal.divergence.sum()),
            "pairs": float(len(proposal.image)),
        }
        for key, value in sums.items():
            self.progress.totals[key] += value
        image = proposal.image
        self.statistics.add_data(batch.group, batch.data)
        model = prepared.transfer[image] * compared.factor
        self.statistics.add_model(batch.group[image], batch.data[image], model, proposal.weight)

    def _update_signal(self, likelihood: Likelihood) -> None:
        """Estimate signal and noise from the images since the last update; shells beyond the stage stay as they are."""
        self.progress.totals["since_update"] = 0.0
        self.signal = self.signal.updated(self.statistics, likelihood.forward.band.n_shells)
        likelihood.signal = self.signal
        self.statistics = ShellStatistics(self.forward.band, self.observations.n_groups)

    def _summary(self, n_shells: int, n_batches: int, seconds: float) -> dict[str, float]:
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
    def infer(self, observations: Observations | None = None, report: Callable[[int], None] | None = None) -> Posterior:
        """Posterior of every image at full resolution with everything learnt held fixed; deterministic."""
        observations = observations or self.observations
        self.motion.eval()
        self.latents.eval()
        likelihood = Likelihood(self.forward.weighted(self.motion.bead_weight()), self.model.objective, self.signal)
        found = []
        batches = torch.arange(len(observations)).split(self.batch_size)
        for batch in serve(observations, batches, device=self.device):
            prepared = likelihood.prepare(batch)
            scorer = Scorer(likelihood, prepared, self.motion, self.beads, self.bead_owner)
            found.append(self.latents.posterior(scorer))
            if report is not None:
                report(len(batch))
        return Posterior(torch.cat([f.mean for f in found]).cpu(), torch.cat([f.covariance for f in found]).cpu())

    def save(self) -> None:
        """Write a checkpoint from which training goes on as if it had never stopped."""
        if self.checkpoints is not None:
            store_state(self, self.checkpoints)

    def resume(self) -> None:
        """Go on from the latest checkpoint."""
        if self.checkpoints is not None:
            restore_state(self, self.checkpoints)
