"""The optimiser: which parameters learn at which rate, and the gradients of all ranks added up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kinesphere.inference.latents import LatentModel
from kinesphere.motion.base import Motion
from kinesphere.ranks import Ranks
from kinesphere.training.options import ScheduleConfig


def make_optimizer(
    motion: Motion, latents: LatentModel, config: ScheduleConfig
) -> torch.optim.Optimizer:
    """Make Adam: networks learn at one rate; a motion model may name parameters that learn at
    another.
    """
    slow = list(motion.structural_parameters())
    named = {id(p) for p in slow}
    rest = [p for p in motion.parameters() if id(p) not in named] + list(latents.parameters())
    groups = [(rest, config.learning_rate, True), (slow, config.structural_learning_rate, False)]
    return torch.optim.Adam(
        [
            {"params": params, "lr": rate, "peak": rate, "is_network": is_network}
            for params, rate, is_network in groups
            if params
        ],
        fused=True,
    )


def set_rates(optimizer: torch.optim.Optimizer, factor: float, *, networks_learn: bool) -> None:
    """Set all rates to a factor of their peaks, those of the networks to zero where they rest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor if networks_learn or not group["is_network"] else 0.0


def add_up_gradients(optimizer: torch.optim.Optimizer, loss: Tensor, ranks: Ranks) -> bool:
    """Give every rank the sum of all ranks' gradients, and tell whether it and the loss are
    finite.
    """
    gradients = list(_gradients(optimizer))
    total = loss.detach()
    ranks.sum_([total, *gradients])
    return bool(torch.isfinite(total)) and bool(torch.isfinite(nn.utils.get_total_norm(gradients)))


def gradient_norm(loss: Tensor, parameters: Sequence[nn.Parameter], ranks: Ranks) -> float:
    """Norm of the gradient of the loss of all ranks; what it does not depend on counts as zero."""
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    ranks.sum_(gradients)
    return float(nn.utils.get_total_norm(gradients))


def _gradients(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return (parameter.grad for parameter in parameters if parameter.grad is not None)
