"""What is reconstructed follows from the run: half sets, and a support that hangs together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from helpers import moving_run as helper
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem


def test_one_model_for_both_halves_is_said(data: Any, tmp_path: Path) -> None:
    shared = pose_problem(helper.KnownRun(data, tmp_path, halves=False), ReconstructionSettings())
    apart = pose_problem(helper.KnownRun(data, tmp_path), ReconstructionSettings())
    assert shared.motion_is_shared
    assert not apart.motion_is_shared
    assert np.array_equal(shared.half, apart.half)  # rlnRandomSubset is honoured either way


def test_support_hangs_together_where_voxels_are_large_or_points_are_few(
    data: Any, tmp_path: Path
) -> None:
    run = helper.KnownRun(data, tmp_path)
    usual = pose_problem(run, ReconstructionSettings(support_angstrom=1.0)).support
    assert ndimage.label(usual.inside)[1] == 1
    run.motions[1].reference = run.motions[1].reference[::20]  # both halves have the same one here
    sparse = pose_problem(run, ReconstructionSettings(support_angstrom=1.0)).support
    assert ndimage.label(sparse.inside)[1] == 1
    assert sparse.n_voxels > 0.7 * usual.n_voxels
