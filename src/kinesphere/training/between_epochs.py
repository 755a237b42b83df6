"""What is done between two passes over the images: reference, restraints and encoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kinesphere.inference.likelihood import Likelihood
from kinesphere.motion.restraints import Restraint
from kinesphere.training.dimension import choose_dimension
from kinesphere.training.directions import start_along_directions
from kinesphere.training.optimiser import gradient_norm

if TYPE_CHECKING:  # the trainer calls these functions
    from kinesphere.training.trainer import Trainer

_IMAGES_FOR_REFERENCE = 100
_LARGEST_CHANGE_OF_BALANCE = 10.0


def prepare_epoch(trainer: Trainer) -> None:
    """Do what is due before an epoch: where to start from, how many dimensions to go on with, a new
    reference, the restraints' view of it, their weight.
    """
    epoch = trainer.progress.epoch
    if trainer.latents.keeps_posteriors:
        if epoch == 0:
            start_along_directions(trainer, trainer.likelihood(epoch))
        elif epoch == trainer.schedule.first_full and len(trainer.held_out):
            likelihood = trainer.likelihood(epoch - 1)
            trainer.progress.dimension_gains = choose_dimension(trainer, likelihood)
    if trainer.schedule.config.replaces_reference(epoch):
        trainer.motion.replace_reference(_nearest_to_consensus(trainer))
    restraints = trainer.model.restraints
    restraints.follow(trainer.motion.reference)
    if restraints.active and restraints.balance is not None and epoch > 0:
        _balance(trainer, restraints, restraints.balance)


@torch.no_grad()
def _nearest_to_consensus(trainer: Trainer) -> Tensor:
    """Latent position, among those of some images, whose state has moved least from where the
    Gaussians started.
    """
    last = len(trainer.observations) - 1
    rows = torch.linspace(0, last, _IMAGES_FOR_REFERENCE).round().long().unique()
    candidates = trainer.infer(trainer.observations.subset(rows)).mean.to(trainer.device)
    moved = trainer.decoder.decode(candidates) - trainer.decoder.start
    trainer.motion.train()
    trainer.latents.train()
    return candidates[int(moved.square().sum((1, 2)).argmin())]


def _balance(trainer: Trainer, restraints: Restraint, ratio: float) -> None:
    """Scale the restraints so that the norms of their gradient and the data term's have a given
    ratio.
    """
    likelihood = Likelihood(trainer.forward, trainer.model.objective, trainer.signal)
    first_batch = trainer.batches(trainer.progress.epoch)[:1]
    batch, draws = next(trainer.shares(trainer.observations, first_batch, trainer.forward.band))
    comparison = trainer.compare(likelihood.prepare(batch), likelihood, draws)
    proposal = comparison.proposal
    rows, weight = proposal.own(torch.arange(proposal.n_states(draws)), draws)
    # moved anew: the gradient of the data term frees what the decoded positions came from
    structures = proposal.decoded.states[rows].move_reference()
    energy = weight * restraints.energy(structures).sum()
    parameters = list(trainer.motion.parameters())
    of_data = gradient_norm(comparison.data_term, parameters, trainer.ranks)
    of_restraints = gradient_norm(energy, parameters, trainer.ranks)
    if of_restraints > 0 and math.isfinite(of_data / of_restraints):
        limit = _LARGEST_CHANGE_OF_BALANCE
        restraints.rescale(min(max(ratio * of_data / of_restraints, 1.0 / limit), limit))


def teach_encoder(trainer: Trainer, likelihood: Likelihood) -> None:
    """Let images that train no motion train the encoder, so that it reads them as well as the
    others.
    """
    bystanders = trainer.bystanders
    if bystanders is None or not any(True for _ in trainer.latents.parameters()):
        return
    batches = torch.arange(len(bystanders)).split(trainer.batch_size)
    for batch, draws in trainer.shares(bystanders, batches, likelihood.forward.band):
        comparison = trainer.compare(likelihood.prepare(batch), likelihood, draws)
        divergence_weight = trainer.schedule.divergence_weight(trainer.progress.step)
        weight = draws.weight * divergence_weight / draws.n_images
        loss = comparison.data_term + weight * comparison.proposal.divergence.sum()
        trainer.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for parameter in trainer.motion.parameters():
            parameter.grad = None  # what has no gradient, the optimiser leaves alone
        if trainer.gradients_are_finite(loss):
            trainer.optimizer.step()
