"""Before a start: a model that lies elsewhere, or is dark, or is another, is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.runs.checks import (
    ModelPose,
    compare_poses,
    require_best_pose,
    require_contrast,
    require_match,
)

SOURCE = Path("model.pdb")
QUARTER_TURN = Rotation.from_euler("z", 90, degrees=True).as_matrix()


@pytest.fixture(scope="module")
def clear(make_toy: Any) -> Any:
    """Images of the toy with little noise."""
    return make_toy(n_images=200, noise=0.7)


def test_a_model_where_it_belongs_matches_best_as_it_lies(clear: Any) -> None:
    as_it_lies, best = compare_poses(clear.forward, clear.reference.beads, clear.observations)
    assert best.angle_degrees == pytest.approx(0.0, abs=1e-6)
    assert float(np.linalg.norm(best.shift_angstrom)) < 6.0
    require_best_pose(as_it_lies, best, clear.observations.band.field_of_view_angstrom, SOURCE)


def test_a_turned_and_moved_model_is_told_how_to_move_back(clear: Any) -> None:
    """x' = R (x − c) + c + t is undone by a turn about the centroid, and then a shift."""
    beads = clear.reference.beads
    centroid, away = beads.mean(0), torch.tensor([9.0, -12.0, 6.0])
    turned = (beads - centroid) @ torch.from_numpy(QUARTER_TURN).float().T + centroid + away
    as_it_lies, best = compare_poses(clear.forward, turned, clear.observations)
    np.testing.assert_allclose(best.turn, QUARTER_TURN.T, atol=1e-6)
    np.testing.assert_allclose(best.shift_angstrom, -away, atol=3.0)
    assert best.significance > 2 * as_it_lies.significance
    with pytest.raises(InputError, match="turned by about 90° and moved by"):
        require_best_pose(as_it_lies, best, clear.observations.band.field_of_view_angstrom, SOURCE)


@pytest.mark.parametrize(
    ("shift", "significance", "is_refused"),
    [(3.0, 90.0, False), (20.0, 90.0, True), (20.0, 55.0, False)],
    ids=["near", "far", "far but hardly better"],
)
def test_only_a_clearly_better_pose_far_away_is_a_finding(
    shift: float, significance: float, *, is_refused: bool
) -> None:
    as_it_lies = ModelPose(np.eye(3), np.zeros(3), 50.0)
    best = ModelPose(np.eye(3), np.array([shift, 0.0, 0.0]), significance)
    if not is_refused:
        require_best_pose(as_it_lies, best, 100.0, SOURCE)
        return
    with pytest.raises(InputError, match=r"moved by \(\+20 \+0 \+0\) Å in x y z"):
        require_best_pose(as_it_lies, best, 100.0, SOURCE)


def test_dark_molecules_and_other_molecules_are_refused(clear: Any) -> None:
    statistics = clear.trainer().statistics_at_rest
    require_contrast(statistics, SOURCE)
    require_match(statistics, SOURCE)
    statistics.cross.neg_()
    with pytest.raises(InputError, match=r"inverted contrast .*Pass --invert-contrast"):
        require_contrast(statistics, SOURCE)
    statistics.cross.zero_()
    require_contrast(statistics, SOURCE)
    with pytest.raises(InputError, match=r"do not show the model in their poses \(match 0\.0 σ\)"):
        require_match(statistics, SOURCE)
