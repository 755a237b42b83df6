"""The field in the trainer: it finds a hinge, reference and restraints follow, a stopped run
continues exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinesphere.imaging.forward import ForwardModel
from kinesphere.inference.decoder import Decoder
from kinesphere.inference.latents import MarginalLatents
from kinesphere.inference.likelihood import Likelihood
from kinesphere.inference.objective import make_objective
from kinesphere.methods.field import FieldScheduleConfig
from kinesphere.motion.field import CoordinateField, FieldMotion, SeparableField
from kinesphere.motion.restraints import NeighbourRestraints
from kinesphere.runs.half_errors import compare_half_models
from kinesphere.training.between_epochs import (
    _balance,
    _nearest_to_consensus,
    prepare_epoch,
    teach_encoder,
)
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
    return make_toy(n_images=192, noise=0.5)


def decoded_angle(trainer: Trainer) -> np.ndarray:
    """Angle by which the moving half of each image's structure has turned about z against the
    other, in radians."""
    with torch.no_grad():
        moved = trainer.motion(trainer.infer().mean).numpy()
    half = moved.shape[1] // 2
    offset = moved[:, half:].mean(1) - moved[:, :half].mean(1)
    return np.arctan2(offset[:, 1], offset[:, 0])


@pytest.mark.parametrize(("decoder", "least"), [("separable", 0.97), ("network", 0.95)])
def test_field_finds_the_hinge(bright: Any, decoder: str, least: float) -> None:
    trainer = field_trainer(bright, epochs=16, decoder=decoder)
    trainer.fit()
    angle = bright.angle_radians.numpy()
    # the lever turns with the domain: the toy's hinge is at the origin, half way between the
    # centroids
    correlation = np.corrcoef(decoded_angle(trainer), angle)[0, 1]
    assert correlation > least


def test_only_the_reference_learns_at_first(bright: Any) -> None:
    trainer = field_trainer(bright, epochs=1, reference_epochs=1)
    before = {name: value.clone() for name, value in trainer.motion.state_dict().items()}
    trainer.fit()
    for name, value in trainer.motion.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in {"reference", "log_weight"}), name


def test_weight_that_the_map_had_lost_is_found(make_toy: Callable[..., Any]) -> None:
    """Pseudo-atoms of the moving half start with 15 % too little; they all have the same."""
    bright = make_toy(n_images=192, noise=0.1)
    half = len(bright.reference.points) // 2
    wrong = torch.ones(2 * half)
    wrong[half:] = 0.85
    dimmed = replace(
        bright, forward=ForwardModel(bright.observations.band, wrong, bright.forward.width_angstrom)
    )
    trainer = field_trainer(dimmed, epochs=40)
    trainer.fit()
    weight = trainer.motion.bead_weight().detach() * wrong
    assert float(weight[half:].mean() / weight[:half].mean()) == pytest.approx(1.0, abs=0.05)


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


def test_stopped_and_continued_equals_uninterrupted(bright: Any, tmp_path: Path) -> None:
    options = {"epochs": 4, "balance": 0.9, "replace_reference_every": 2}
    whole = field_trainer(bright, **options)
    whole.fit()

    def stop(metrics: dict[str, float]) -> None:
        if metrics["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        field_trainer(bright, checkpoints=tmp_path, **options).fit(report=stop)
    second = field_trainer(bright, checkpoints=tmp_path, **options)
    second.resume()
    assert second.progress.epoch == 3
    second.fit()
    for name, value in whole.motion.state_dict().items():
        assert torch.equal(value, second.motion.state_dict()[name]), name


def test_two_models_of_one_motion_agree_and_of_noise_do_not(
    make_toy: Callable[..., Any], tmp_path: Path
) -> None:
    toys = [make_toy(n_images=160, noise=0.5, seed=seed) for seed in (1, 2)]
    trainers = [field_trainer(toy, epochs=10, seed=number) for number, toy in enumerate(toys)]
    for trainer in trainers:
        trainer.fit()
    images = make_toy(n_images=40, noise=0.5, seed=3).observations
    errors = compare_half_models(trainers[0], trainers[1], images, np.arange(40))
    assert errors.error_angstrom.shape == (40, 60)
    moved = np.median(errors.displacement_angstrom)
    assert moved > 1.0
    assert np.median(errors.error_angstrom) < 0.5 * moved
    with torch.no_grad():
        for parameter in trainers[1].motion.parameters():
            parameter.neg_()  # the second now moves everything the other way
        trainers[1].motion.reference.neg_()
    opposite = compare_half_models(trainers[0], trainers[1], images, np.arange(40))
    assert np.median(opposite.error_angstrom) > np.median(errors.error_angstrom)
    errors.save(tmp_path / "validation" / "errors.npz")
    with np.load(tmp_path / "validation" / "errors.npz") as stored:
        assert stored["error_angstrom"] == pytest.approx(errors.error_angstrom)
        assert stored["latent"].shape == (2, 40, 1)


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


def test_subsets_of_images_are_the_images(bright: Any) -> None:
    chosen = torch.tensor([5, 90, 3, 17])
    whole, part = (
        bright.observations,
        bright.observations.subset(chosen).subset(torch.tensor([3, 1])),
    )
    assert len(part) == 2
    batch, expected = part.batch(torch.tensor([1, 0])), whole.batch(torch.tensor([90, 17]))
    for name in ("data", "rotation", "group"):
        assert torch.equal(getattr(batch, name), getattr(expected, name))
    assert torch.equal(batch.ctf.defocus_u_angstrom, expected.ctf.defocus_u_angstrom)
    assert part.data.data_ptr() == whole.data.data_ptr()  # shared, not copied
