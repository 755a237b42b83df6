"""Intervals that are right by construction, too narrow, and too wide; where two modes part, and how
many molecules are in each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinesphere.evaluation.calibration import calibration_scores, mode_scores, valley
from kinesphere.evaluation.metrics import MainMotion
from kinesphere.evaluation.predictions import predict
from kinesphere.evaluation.truth import Truth


def scores_of(
    make_run: Callable[..., Any], truth: Truth, claimed: float, actual: float = 0.05
) -> dict[str, float]:
    """Latents that are off by `actual`, with the standard deviation `claimed`; states in the middle
    of the path."""
    state = 3 + np.arange(len(truth.state)) % 5
    middle = replace(truth, state=state, coordinate=truth.state_coordinate[state])
    error = actual * np.random.default_rng(0).standard_normal(len(state))
    run = make_run(mean=(state / 10.0 + error)[:, None], std=claimed)
    _, rows = middle.match(run.model)
    return calibration_scores(run, middle, rows, MainMotion.of_states(middle.ca_states))


def test_right_errors_cover_what_they_say(make_run: Callable[..., Any], truth: Truth) -> None:
    scores = scores_of(make_run, truth, claimed=0.05)
    assert scores["coverage_68"] == pytest.approx(0.68, abs=0.07)
    assert scores["coverage_90"] == pytest.approx(0.90, abs=0.05)
    assert scores["coverage_95"] == pytest.approx(0.95, abs=0.04)
    assert (
        scores["posterior_coverage_90"] == scores["coverage_90"]
    )  # this kind of motion claims nothing more
    assert scores["residue_coverage_90_moving"] == pytest.approx(0.90, abs=0.06)


def test_errors_claimed_too_small_or_too_large_are_told(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    bold, timid = scores_of(make_run, truth, claimed=0.02), scores_of(make_run, truth, claimed=0.15)
    assert bold["coverage_90"] < 0.6
    assert bold["residue_coverage_90_moving"] < 0.7
    assert timid["coverage_90"] > 0.97


def test_without_motion_there_is_nothing_to_cover(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    still = replace(truth, ca_states=np.repeat(truth.ca_states[:1], len(truth.ca_states), axis=0))
    run = make_run()
    _, rows = still.match(run.model)
    scores = calibration_scores(run, still, rows, MainMotion.of_states(still.ca_states))
    assert all(np.isnan(value) for value in scores.values())


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
