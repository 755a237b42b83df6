"""Between two passes: reference and restraints follow the motion, and bystanders teach the
encoder."""

from __future__ import annotations

from typing import Any

import torch

from helpers.field_toy import field_trainer
from kinesphere.inference.likelihood import Likelihood
from kinesphere.methods.field import FieldScheduleConfig
from kinesphere.training.between_epochs import (
    _balance,
    _nearest_to_consensus,
    prepare_epoch,
    teach_encoder,
)
from kinesphere.training.schedule import Schedule


def test_reference_is_replaced_by_the_state_nearest_to_the_consensus(bright: Any) -> None:
    trainer = field_trainer(bright, epochs=4)
    trainer.fit()
    with torch.no_grad():
        trainer.motion.reference.add_(torch.randn_like(trainer.motion.reference))  # drifted away
        expected = _nearest_to_consensus(trainer)
        wanted = trainer.motion(expected[None])[0]
    trainer.schedule = Schedule(
        FieldScheduleConfig(replace_reference_every=4, epochs=8), len(bright.observations), 13, 32
    )
    prepare_epoch(trainer)
    assert torch.equal(trainer.motion.anchor, expected)
    torch.testing.assert_close(trainer.motion.reference.detach(), wanted)
    kept = trainer.model.restraints.energy(trainer.motion.reference[None])
    torch.testing.assert_close(
        kept.detach(), torch.zeros(1), atol=1e-6, rtol=0
    )  # its graph has followed


def test_gradients_of_restraints_and_data_get_the_wanted_ratio(bright: Any) -> None:
    trainer = field_trainer(bright, epochs=3, balance=0.9)
    trainer.fit()
    restraints, state = trainer.model.restraints, trainer.generator.get_state()

    def balanced(ratio: float, times: int) -> torch.Tensor:
        # a weight changes tenfold at most at a time; the draws are the same in all
        for _ in range(times):
            trainer.generator.set_state(state)
            _balance(trainer, restraints, ratio)
        return restraints.state()["weight"]

    weight = balanced(0.9, times=4)
    torch.testing.assert_close(balanced(0.9, times=1), weight, rtol=1e-3, atol=0)
    torch.testing.assert_close(balanced(0.45, times=1), 0.5 * weight, rtol=1e-3, atol=0)


def test_validation_images_teach_the_encoder_and_nothing_else(bright: Any) -> None:
    trainer = bright.trainer(inference="vae")
    images = torch.arange(len(bright.observations))
    trainer.observations, trainer.bystanders = (
        bright.observations.subset(images[:96]),
        bright.observations.subset(images[96:]),
    )
    motion = {
        name: value.clone()
        for name, value in trainer.motion.state_dict().items()
        if name != "segmentation.noise"
    }
    encoder = {name: value.clone() for name, value in trainer.latents.state_dict().items()}
    for group in trainer.optimizer.param_groups:
        group["lr"] = 1e-3
    likelihood = Likelihood(trainer.forward, trainer.model.objective, trainer.signal)
    teach_encoder(trainer, likelihood)
    assert all(
        torch.equal(trainer.motion.state_dict()[name], value) for name, value in motion.items()
    )
    assert not any(
        torch.equal(trainer.latents.state_dict()[name], value) for name, value in encoder.items()
    )
