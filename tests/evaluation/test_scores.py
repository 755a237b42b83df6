"""Scores of runs whose structures are known: the truth itself, the truth moved, and no motion at
all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.evaluation.metrics import MainMotion
from kinesphere.evaluation.options import ScoreSettings
from kinesphere.evaluation.predictions import predict
from kinesphere.evaluation.scores import score
from kinesphere.evaluation.truth import Truth
from kinesphere.simulate.ensembles import Ensemble

NO_IDEAL = ScoreSettings(ideal=False)
LID_TO_CORE = "A:122-159/A:1-29,A:60-121,A:160-214"


def test_a_run_that_finds_the_truth_has_no_error_and_full_correlation(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    scores = score(make_run(), truth, ScoreSettings(distance=(LID_TO_CORE,), ideal=False))
    assert scores["n"] == 240
    assert scores["ca_rmsd_median"] < 1e-4
    assert scores["rmsd_ratio"] < 1e-4
    assert scores["r_main_motion"] == pytest.approx(1.0)
    assert scores["amplitude_main_motion"] == pytest.approx(1.0, abs=1e-4)
    assert scores["spearman_main_motion"] == pytest.approx(1.0)
    assert scores["r_coordinate"] == pytest.approx([1.0])
    assert scores["latent_r2_coordinate"][0] > 0.99
    assert scores["latent_smooth_r_coordinate"] == pytest.approx([1.0], abs=1e-4)
    assert scores["coverage_68"] == 1.0  # no error, whatever error is claimed
    assert scores["distances"][0]["r"] == pytest.approx(1.0)
    assert scores["distances"][0]["rms_error_angstrom"] < 1e-4
    assert scores["distances"][0]["amplitude"] == pytest.approx(1.0, abs=1e-4)
    assert scores["moved_median"] == pytest.approx(scores["still_rmsd_median"], rel=1e-4)
    assert "ideal_r_main_motion" not in scores


def test_a_shift_of_the_whole_molecule_costs_rmsd_and_nothing_else(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    run = make_run()
    run.error = np.array([0.0, 0.6, 0.8])
    scores = score(run, truth, ScoreSettings(distance=(LID_TO_CORE,), ideal=False))
    assert scores["ca_rmsd_median"] == pytest.approx(1.0, rel=1e-4)
    assert scores["ca_rmsd_superposed_median"] < 1e-3
    assert scores["r_main_motion"] == pytest.approx(1.0)
    assert scores["distances"][0]["rms_error_angstrom"] < 1e-4


def test_a_run_without_motion_has_no_correlation_and_the_error_of_not_moving(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    still = np.zeros((240, 1))  # the nominal model is the first state
    scores = score(make_run(still), truth, NO_IDEAL)
    assert np.isnan(scores["r_main_motion"])
    assert np.isnan(scores["r_coordinate"][0])
    assert np.isnan(scores["latent_smooth_r_coordinate"][0])
    assert scores["rmsd_ratio"] == pytest.approx(1.0)
    assert scores["moved_median"] < 1e-4
    assert scores["motion_spread_median"] < 1e-4
    assert scores["clashes"] == 0.0


def test_reversed_latents_score_the_correlation_they_have(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    scores = score(make_run(1.0 - truth.coordinate), truth, NO_IDEAL)
    assert scores["r_main_motion"] < -0.95
    assert scores["latent_r2_coordinate"][0] > 0.99  # the latents still know the coordinate
    assert scores["latent_smooth_r_coordinate"] == pytest.approx([1.0], abs=1e-4)


def test_each_half_set_has_a_smooth_function_of_its_own(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    half = 1 + np.arange(240) // 11 % 2  # both have every state
    reversed_half = np.where(half == 1, truth.coordinate[:, 0], 1.0 - truth.coordinate[:, 0])
    run = make_run(reversed_half[:, None])
    joint = score(run, truth, NO_IDEAL)
    run.latents = replace(run.latents, half=half)
    apart = score(run, truth, NO_IDEAL)
    assert joint["latent_smooth_r_coordinate"][0] < 0.3
    assert apart["latent_smooth_r_coordinate"] == pytest.approx([1.0], abs=1e-4)


def test_motion_where_nothing_moves_is_told_apart_from_displacement(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    nothing = {
        "state": truth.state * 0,
        "coordinate": truth.coordinate * 0.0,
        "state_coordinate": np.zeros((1, 1)),
    }
    static = replace(truth, ca_states=truth.ca_states[:1], **nothing)
    moved = score(make_run(np.full((240, 1), 1.0)), static, NO_IDEAL)
    assert moved["moved_median"] > 5.0
    assert moved["motion_spread_median"] < 1e-4
    assert np.isnan(moved["r_main_motion"])
    assert np.isnan(moved["coverage_68"])
    assert np.isnan(moved["neighbourhood_similarity"])
    assert np.isnan(moved["latent_smooth_r_coordinate"][0])
    moving = score(make_run(), static, NO_IDEAL)
    assert moving["motion_spread_median"] > 1.0


def test_claimed_errors_are_held_against_real_ones(
    make_run: Callable[..., Any], truth: Truth
) -> None:
    rng = np.random.default_rng(4)
    inside = 0.2 + 0.6 * truth.coordinate  # so that no latent leaves the path
    truth = replace(truth, state=np.rint(inside[:, 0] * 10).astype(int))
    z = truth.state[:, None] / 10 + rng.normal(0.0, 0.05, (240, 1))
    honest, bold = (score(make_run(z, std), truth, NO_IDEAL) for std in (0.05, 0.015))
    assert honest["coverage_68"] == pytest.approx(0.68, abs=0.1)
    assert honest["coverage_95"] == pytest.approx(0.95, abs=0.05)
    assert bold["coverage_95"] < 0.6


def test_images_are_measured_the_same_in_chunks(
    make_run: Callable[..., Any], truth: Truth, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion, rows = MainMotion.of_states(truth.ca_states), np.flatnonzero(ensemble.model.is_polymer)
    z = np.random.default_rng(8).random((240, 1))
    whole = predict(make_run(z), truth, rows, motion, ())
    monkeypatch.setattr(
        "kinesphere.analysis.ensemble.CHUNK_BYTES", 7 * 24 * ensemble.model.n_residues
    )
    pieces = predict(make_run(z), truth, rows, motion, ())
    assert pieces.rmsd == pytest.approx(whole.rmsd)
    assert pieces.spread == pytest.approx(whole.spread)
    assert pieces.coordinate == pytest.approx(whole.coordinate)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ScoreSettings(distance=("A:1-9",)), "--distance: 'A:1-9' cannot be read"),
        (ScoreSettings(distance=("A:1-9/B:1",)), "--distance: the model has no residues 'B:1'"),
        (ScoreSettings(distance=("A:1-9/",)), "--distance: '' names no residues"),
    ],
)
def test_options_that_cannot_be_meant(
    settings: ScoreSettings, words: str, make_run: Callable[..., Any], truth: Truth
) -> None:
    with pytest.raises(InputError) as caught:
        score(make_run(), truth, settings)
    assert words in str(caught.value)
