"""Where two modes part, and how many molecules are in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kinesphere.evaluation.metrics import MainMotion
from kinesphere.evaluation.population_modes import mode_scores, valley
from kinesphere.evaluation.predictions import predict
from kinesphere.evaluation.truth import Truth


def test_the_valley_lies_between_two_modes_and_nowhere_else() -> None:
    draw = np.random.default_rng(0)
    two = np.concatenate([draw.normal(-2.0, 0.5, 700), draw.normal(2.0, 0.5, 300)])
    assert valley(two) == pytest.approx(0.0, abs=0.6)
    assert np.isnan(valley(draw.normal(size=1000)))
    assert np.isnan(valley(draw.uniform(size=1000)))
    assert np.isnan(valley(np.ones(5)))


def test_a_run_that_finds_the_truth_finds_the_split(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    chosen = np.where(np.arange(len(truth.state)) % 4 == 0, 9, 1)  # a quarter open
    two_modes = Truth(
        **{**vars(truth), "state": chosen, "coordinate": truth.state_coordinate[chosen]}
    )
    run = make_run(mean=chosen[:, None] / 10.0)
    _, rows = two_modes.match(run.model)
    motion = MainMotion.of_states(two_modes.ca_states)
    scores = mode_scores(
        run, two_modes, rows, motion, predict(run, two_modes, rows, motion, ()).main_motion
    )
    closed = (
        motion.project(two_modes.ca_states[1:2])[0] < motion.project(two_modes.ca_states[9:])[0]
    )
    assert scores["population_true"] == pytest.approx(0.75 if closed else 0.25)
    assert scores["population"] == pytest.approx(scores["population_true"], abs=1e-3)
    assert scores["population_counted"] == pytest.approx(scores["population_true"])


def test_one_mode_has_no_split(make_run: Callable[..., Any], truth: Truth) -> None:
    run = make_run()
    _, rows = truth.match(run.model)
    motion = MainMotion.of_states(truth.ca_states)
    scores = mode_scores(run, truth, rows, motion, np.zeros(len(truth.state)))
    assert np.isnan(scores["population"])
