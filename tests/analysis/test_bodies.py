"""Bodies and their motion for a bundle in which one known segment turns about a known hinge."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.analysis.bodies import (
    centroid_distances,
    describe_groups,
    find_hinges,
    merge_into_bodies,
    segment_of_residue,
)
from kinesphere.io.selection import format_residues

SWINGING = np.arange(72, 108)


@pytest.fixture(scope="module")
def ensemble(run: Any) -> tuple[np.ndarray, np.ndarray]:
    return run.model.centres_angstrom, run.decode(run.latents.mean)


@pytest.fixture(scope="module")
def body(run: Any, ensemble: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return merge_into_bodies(*ensemble, segment_of_residue(run.memberships), tolerance_angstrom=0.5)


def test_segments_are_numbered_without_gaps(run: Any) -> None:
    assert segment_of_residue(run.memberships).tolist() == np.repeat([0, 1, 2, 3], 36).tolist()


def test_segments_that_move_together_become_one_body_across_chains(
    run: Any, body: np.ndarray
) -> None:
    assert np.array_equal(np.flatnonzero(body == 1), SWINGING)
    assert format_residues(run.model, np.flatnonzero(body == 0)) == "A:1-72 B:1-36"


def test_a_large_core_does_not_swallow_a_small_moving_segment(
    fake: ModuleType, tmp_path: Path
) -> None:
    run = fake.hinge_run(tmp_path, n=100)
    segment = np.zeros(run.model.n_residues, int)
    segment[72:108] = 1
    segment[108] = 2
    body = merge_into_bodies(run.model.centres_angstrom, run.decode(run.latents.mean), segment, 0.5)
    assert body[72] != body[0]
    assert body[108] == body[0]


def test_the_rotation_of_the_swinging_body_is_the_known_one(
    run: Any, ensemble: tuple[np.ndarray, np.ndarray], body: np.ndarray
) -> None:
    core, swinging = describe_groups(run.model, *ensemble, body, body)
    low, high = np.percentile(15.0 * run.latents.mean[:, 0], [5, 95])
    assert swinging.relative_rotation.range_degrees == pytest.approx(high - low, rel=0.01)
    assert np.abs(swinging.relative_rotation.axis) == pytest.approx([0, 1, 0], abs=0.01)
    assert core.amplitude_angstrom == pytest.approx(0.0, abs=1e-6)
    assert core.rotation.range_degrees == pytest.approx(0.0, abs=1e-3)


def test_motion_seen_from_the_core_ignores_tumbling(
    run: Any, ensemble: tuple[np.ndarray, np.ndarray], body: np.ndarray
) -> None:
    rng = np.random.default_rng(8)
    tumbling = Rotation.from_rotvec(rng.normal(0, 0.1, (len(ensemble[1]), 3))).as_matrix()
    moved = ensemble[1] @ tumbling.transpose(0, 2, 1) + rng.normal(0, 3, (len(tumbling), 1, 3))
    still = describe_groups(run.model, *ensemble, body, body)[1]
    tumbled = describe_groups(run.model, ensemble[0], moved, body, body)[1]
    assert tumbled.relative_rotation.range_degrees == pytest.approx(
        still.relative_rotation.range_degrees, rel=1e-3
    )
    assert tumbled.relative_shift.range_angstrom == pytest.approx(
        still.relative_shift.range_angstrom, rel=1e-3
    )
    assert tumbled.rotation.std_degrees != pytest.approx(still.rotation.std_degrees, rel=0.01)


def test_nothing_is_merged_at_zero_tolerance_but_rigid_groups(
    ensemble: tuple[np.ndarray, np.ndarray], run: Any
) -> None:
    segment = segment_of_residue(run.memberships)
    assert (
        merge_into_bodies(*ensemble, segment, 1e-6).max() == 1
    )  # the still segments are exactly rigid
    swinging_cut_in_two = segment.copy()
    swinging_cut_in_two[90:108] = 4
    assert merge_into_bodies(*ensemble, swinging_cut_in_two, 1e-4).max() == 1


def test_hinges_name_the_residues_on_both_sides(run: Any, body: np.ndarray) -> None:
    (hinge,) = find_hinges(run.model, body)
    assert str(hinge) == "A:72/73"  # the other end of the swinging body is the end of chain A
    assert hinge.bodies == (1, 2)


def test_centroid_distances(
    run: Any, ensemble: tuple[np.ndarray, np.ndarray], body: np.ndarray
) -> None:
    pairs, distances = centroid_distances(ensemble[1], body)
    expected = np.linalg.norm(
        ensemble[1][:, body == 0].mean(axis=1) - ensemble[1][:, body == 1].mean(axis=1), axis=1
    )
    assert pairs == [(0, 1)]
    assert distances[:, 0] == pytest.approx(expected)


def test_ranges_break_at_chains_and_carry_insertion_codes(fake: ModuleType) -> None:
    model = fake.helix_bundle()
    codes = model.insertion_code.astype("U1")
    codes[4] = "B"
    assert (
        format_residues(replace(model, insertion_code=codes), np.array([2, 3, 4, 7, 107, 108]))
        == "A:3-5B,8,108 B:1"
    )
