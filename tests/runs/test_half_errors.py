"""Two models of two half sets: what they disagree about is what is not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.field_toy import field_trainer
from kinesphere.runs.half_errors import HalfModelErrors, compare_half_models


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


def test_the_summary_says_medians_and_the_tail() -> None:
    error = np.tile(np.arange(101.0) / 100, (3, 1))
    errors = HalfModelErrors(
        index=np.arange(3),
        error_angstrom=error,
        displacement_angstrom=np.full((3, 101), 2.5),
        offset_angstrom=np.zeros((101, 3)),
        latent=np.zeros((2, 3, 1)),
    )
    for words in ("3 images", "2.50 Å (median)", "0.50 Å (median)", "0.95 Å (95th percentile)"):
        assert words in errors.summary()
