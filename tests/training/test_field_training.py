"""The field in the trainer: it finds a hinge, and a stopped run continues exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.field_toy import field_trainer
from kinesphere.imaging.forward import ForwardModel
from kinesphere.training.trainer import Trainer


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
