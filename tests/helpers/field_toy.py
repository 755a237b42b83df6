"""A displacement field that is trained on the toy's images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kinesphere.inference.decoder import Decoder
from kinesphere.inference.latents import MarginalLatents
from kinesphere.inference.objective import make_objective
from kinesphere.methods.field import FieldScheduleConfig
from kinesphere.motion.field import CoordinateField, FieldMotion, SeparableField
from kinesphere.motion.restraints import NeighbourRestraints
from kinesphere.training.schedule import Schedule
from kinesphere.training.trainer import Model, Trainer

PACE = {"coarse_epochs": 0, "learning_rate": 5e-3, "patience": 100, "replace_reference_every": 0}


def field_trainer(
    toy: Any, *, seed: int = 0, checkpoints: Path | None = None, **options: Any
) -> Trainer:
    """Make a trainer of a displacement field on the toy's images."""
    balance = options.pop("balance", None)
    decoder = options.pop("decoder", "separable")
    torch.manual_seed(seed)
    points = toy.reference.points
    motion: FieldMotion
    if decoder == "separable":
        motion = SeparableField(points, 1, n_parts=4, decoder_width=32)
    else:
        motion = CoordinateField(points, 1, decoder_width=32)
    restraints = NeighbourRestraints(points, weight=0.001, balance=balance)
    pace = FieldScheduleConfig(**(PACE | options))
    schedule = Schedule(pace, len(toy.observations), toy.observations.band.n_shells, 32)
    model = Model(
        Decoder(motion, toy.reference),
        MarginalLatents(1, 12),
        make_objective("gaussian"),
        restraints,
    )
    return Trainer(
        model, toy.observations, toy.forward, schedule, seed=seed, checkpoints=checkpoints
    )


@pytest.fixture(scope="module")
def bright(make_toy: Callable[..., Any]) -> Any:
    """Images with half as much noise as signal."""
    return make_toy(n_images=192, noise=0.5)
