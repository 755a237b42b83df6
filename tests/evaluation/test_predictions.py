"""What a run says of each image: the true states where it is right, and errors in Å."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kinesphere.evaluation.metrics import MainMotion
from kinesphere.evaluation.predictions import main_motion_errors, predict
from kinesphere.evaluation.truth import Truth


def test_a_run_of_the_true_states_is_at_them(make_run: Callable[..., Any], truth: Truth) -> None:
    run = make_run()
    rows = np.arange(run.model.n_residues)
    motion = MainMotion.of_states(truth.ca_states)
    predictions = predict(run, truth, rows, motion, [])
    assert predictions.rmsd.max() < 1e-3
    assert predictions.distances.shape == (len(truth.state), 0)
    np.testing.assert_allclose(predictions.coordinate, truth.coordinate)
    np.testing.assert_allclose(
        predictions.main_motion, motion.project(truth.ca_states)[truth.state], atol=1e-3
    )


def test_errors_grow_with_those_of_the_latents(make_run: Callable[..., Any], truth: Truth) -> None:
    rows = np.arange(truth.ca_states.shape[1])
    motion = MainMotion.of_states(truth.ca_states)
    images = np.flatnonzero(truth.state == 5)
    small, large = (
        main_motion_errors(make_run(std=std), rows, motion, images) for std in (0.005, 0.01)
    )
    assert (small > 0).all()
    assert large == pytest.approx(2.0 * small, rel=0.05)
