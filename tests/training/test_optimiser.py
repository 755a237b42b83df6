"""The optimiser: two rates, one schedule; gradients of several ranks are those of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from kinesphere.inference.latents import MarginalLatents
from kinesphere.motion.base import Motion
from kinesphere.ranks import ALONE, Ranks
from kinesphere.training.optimiser import (
    add_up_gradients,
    gradient_norm,
    make_optimizer,
    set_rates,
)
from kinesphere.training.options import ScheduleConfig


class Stretch(Motion):
    """Points move along what a layer says, from a reference that is learnt."""

    def __init__(self) -> None:
        super().__init__(torch.ones(4, 3), 1, learns_reference=True)
        self.layer = nn.Linear(1, 3)

    def move(self, z: Tensor, points: Tensor, owner: Tensor) -> Tensor:  # noqa: ARG002 - all alike
        return points + self.layer(z)[:, None]

    def memberships(self) -> Tensor:
        return torch.ones(4, 1)

    def structural_parameters(self) -> Iterator[nn.Parameter]:
        return iter([self.reference])


@dataclass(frozen=True)
class Slowly(ScheduleConfig):
    """The reference learns ten times as slowly as the networks."""

    learning_rate: float = 1e-2

    @property
    def structural_learning_rate(self) -> float:
        return 0.1 * self.learning_rate


class Twin(Ranks):
    """One of two ranks, the other of which always has the same as this one."""

    def sum_(self, values: list[Tensor]) -> None:
        for value in values:
            value.mul_(2)


@pytest.fixture
def motion() -> Stretch:
    return Stretch()


@pytest.fixture
def optimizer(motion: Stretch) -> torch.optim.Optimizer:
    return make_optimizer(motion, MarginalLatents(1, 4), Slowly())


def rates(optimizer: torch.optim.Optimizer, motion: Stretch) -> dict[str, float]:
    """Give the rate of every parameter of the motion by its name."""
    by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in motion.named_parameters()}


def test_every_parameter_learns_once_at_its_rate(
    motion: Stretch, optimizer: torch.optim.Optimizer
) -> None:
    expected = {"reference": 1e-3, "layer.weight": 1e-2, "layer.bias": 1e-2}
    assert rates(optimizer, motion) == pytest.approx(expected)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 3


def test_rates_rise_and_fall_together_and_networks_may_rest(
    motion: Stretch, optimizer: torch.optim.Optimizer
) -> None:
    set_rates(optimizer, 0.5, networks_learn=True)
    expected = {"reference": 5e-4, "layer.weight": 5e-3, "layer.bias": 5e-3}
    assert rates(optimizer, motion) == pytest.approx(expected)
    set_rates(optimizer, 0.25, networks_learn=False)
    expected = {"reference": 2.5e-4, "layer.weight": 0.0, "layer.bias": 0.0}
    assert rates(optimizer, motion) == pytest.approx(expected)
    set_rates(optimizer, 1.0, networks_learn=True)
    assert rates(optimizer, motion)["layer.weight"] == pytest.approx(1e-2)


def test_gradients_of_two_ranks_add_up(motion: Stretch, optimizer: torch.optim.Optimizer) -> None:
    loss = motion(torch.ones(2, 1)).square().sum()
    loss.backward()
    before = {name: p.grad.clone() for name, p in motion.named_parameters()}
    assert add_up_gradients(optimizer, loss, Twin(0, 2, 0, (0, 1)))
    for name, parameter in motion.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * before[name])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told(
    motion: Stretch, optimizer: torch.optim.Optimizer, bad: float
) -> None:
    loss = motion(torch.ones(2, 1)).sum()
    loss.backward()
    assert add_up_gradients(optimizer, loss, ALONE)
    assert not add_up_gradients(optimizer, loss * bad, ALONE)
    motion.reference.grad[1, 2] = bad
    assert not add_up_gradients(optimizer, loss, ALONE)


def test_the_norm_of_a_gradient_is_over_all_parameters_and_all_ranks(motion: Stretch) -> None:
    parameters = list(motion.parameters())
    loss = 3.0 * motion.reference[0, 0] + 4.0 * motion.layer.bias[1]  # none of layer.weight
    assert gradient_norm(loss, parameters, ALONE) == pytest.approx(5.0)
    loss = 3.0 * motion.reference[0, 0] + 4.0 * motion.layer.bias[1]
    assert gradient_norm(loss, parameters, Twin(0, 2, 0, (0, 1))) == pytest.approx(10.0)
