"""The ideal observer's scores and fractions of them, on a posterior made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from kinesphere.evaluation.metrics import MainMotion
from kinesphere.evaluation.observer import IdealObserver, add_limits
from kinesphere.evaluation.options import ScoreSettings
from kinesphere.evaluation.predictions import predict
from kinesphere.evaluation.scores import score
from kinesphere.evaluation.truth import Truth
from kinesphere.simulate.ensembles import Ensemble


def test_every_limit_is_that_of_the_posterior_mean(
    make_run: Callable[..., Any], truth: Truth, ensemble: Ensemble
) -> None:
    rng = np.random.default_rng(0)
    images = np.arange(0, 240, 2)
    posterior = np.exp(
        -0.5 * ((np.arange(11) - truth.state[images, None] + rng.normal(0, 1, (120, 1))) / 1.0) ** 2
    )
    posterior /= posterior.sum(axis=1, keepdims=True)
    ideal = IdealObserver(images, np.arange(11), posterior)
    run, motion = (
        make_run(truth.coordinate + rng.normal(0, 0.3, (240, 1))),
        MainMotion.of_states(truth.ca_states),
    )
    rows = np.flatnonzero(ensemble.model.is_polymer)
    scores = score(run, truth, ScoreSettings(ideal=False))
    predictions = predict(run, truth, rows, motion, ())
    smooth = truth.coordinate + rng.normal(0, 0.1, (240, 1))
    add_limits(scores, truth, motion, (), predictions, smooth, ideal)

    mean = posterior @ truth.ca_states.reshape(11, -1)
    true = truth.ca_states.reshape(11, -1)[truth.state[images]]
    error = np.sqrt(((mean - true) ** 2).mean(axis=1) * 3)
    assert scores["ideal_ca_rmsd_quartiles"] == pytest.approx(
        np.percentile(error, [25, 75]), rel=1e-6
    )
    assert scores["ideal_ca_rmsd_median"] == pytest.approx(np.median(error), rel=1e-6)
    mode = motion.mode.ravel()
    limit = stats.spearmanr(mean @ mode, true @ mode).statistic
    found = stats.spearmanr(predictions.main_motion[images], true @ mode).statistic
    assert scores["ideal_spearman_main_motion"] == pytest.approx(limit, abs=1e-3)
    assert scores["fraction_of_ideal_spearman"] == pytest.approx(found / limit, abs=1e-3)
    coordinate = truth.coordinate[images, 0]
    expected = posterior @ truth.state_coordinate[:, 0]
    assert scores["ideal_r_coordinate"][0] == pytest.approx(
        stats.pearsonr(expected, coordinate).statistic, abs=1e-3
    )
    assert scores["fraction_of_ideal_latent_smooth_r_coordinate"][0] == pytest.approx(
        stats.pearsonr(smooth[images, 0], coordinate).statistic / scores["ideal_r_coordinate"][0],
        abs=1e-3,
    )
    assert 0.1 < scores["fraction_of_ideal_neighbourhood_similarity"] < 1.0
    assert 0.0 < scores["ideal_information_imbalance"][0] < scores["information_imbalance"][0]
