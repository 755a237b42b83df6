"""A reconstruction from particles to files, with the true motion: better than without, and honest
about it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from helpers import moving_run as helper
from kinesphere.errors import InputError
from kinesphere.io.mrc import DensityMap, read_map, write_map
from kinesphere.reconstruction import half as half_module
from kinesphere.reconstruction import problem as problem_module
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.job import combine, reconstruct
from kinesphere.reconstruction.masks import near_points, soft_edge, sphere_mask
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.runtime import InterruptedRunError, Interrupts

BOX, PIXEL_ANGSTROM = helper.BOX, helper.PIXEL_ANGSTROM


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Six hundred images of a molecule that opens by up to 7 Å RMSD."""
    return helper.simulate(tmp_path_factory.mktemp("data"), 600, 0.5)


@pytest.fixture(scope="module")
def done(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reconstructions of it: with motion, without, and by least squares."""
    folder = tmp_path_factory.mktemp("run")
    for name, settings in (
        ("moved", ReconstructionSettings()),
        ("still", ReconstructionSettings(homogeneous=True)),
        ("solved", ReconstructionSettings(iterations=4)),
    ):
        reconstruct(helper.KnownRun(data, folder), settings, folder / name)
    return folder


def moving_part(data: Any) -> np.ndarray:
    """Soft mask around the residues that move most, in state 0."""
    travel = np.linalg.norm(data.ca_states - data.ca_states[0], axis=2).mean(0)
    chosen = data.ca_states[0][travel > np.percentile(travel, 70)]
    grid = problem_module.RenderGrid(BOX, PIXEL_ANGSTROM)
    return soft_edge(near_points(chosen, grid, 4.0), 0.0, 4.0)


def fsc_to_truth(path: Path, data: Any) -> np.ndarray:
    mask = moving_part(data)
    return fourier_shell_correlation(read_map(path).data * mask, data.true_map * mask)


def columns(path: Path) -> dict[str, np.ndarray]:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_the_motion_brings_back_what_moves(done: Path, data: Any) -> None:
    until = slice(1, round(0.45 * BOX))
    still = fsc_to_truth(done / "still" / "map.mrc", data)[until].mean()
    moved = fsc_to_truth(done / "moved" / "map.mrc", data)[until].mean()
    solved = fsc_to_truth(done / "solved" / "map.mrc", data)[until].mean()
    assert moved > still + 0.15
    assert solved > moved + 0.005


def test_a_few_views_give_what_they_give_without_motion(data: Any, tmp_path: Path) -> None:
    """Most of Fourier space is not sampled then: what the support's edge puts there must not be
    made large."""
    run = helper.KnownRun(data, tmp_path)
    half = np.where(np.arange(len(run.particles)) < 12, 1, 2)
    run.latents = replace(run.latents, half=half)
    problem = pose_problem(run, ReconstructionSettings(homogeneous=True))
    checkpoints = half_module.HalfCheckpoints(tmp_path / "checkpoints", problem.fingerprint)
    maps = half_module.reconstruct_half(problem, 1, checkpoints, Interrupts(), lambda *_: None)
    inside = problem.support.inside
    assert np.corrcoef(maps.moved[inside], maps.homogeneous[inside])[0, 1] > 0.95
    assert maps.moved[inside].std() < 1.1 * maps.homogeneous[inside].std()


def test_half_map_fsc_claims_no_more_than_the_truth_gives(done: Path, data: Any) -> None:
    # FSC of a half map with the truth is √FSC of two half maps whose errors are independent
    mask = read_map(done / "moved" / "mask.mrc").data
    half = read_map(done / "moved" / "half1.mrc").data
    truth = fourier_shell_correlation(half * mask, data.true_map * mask)[1:]
    claimed = columns(done / "moved" / "fsc.csv")["corrected"]
    # the box is too small for all that the CTF spreads, and CA traces do not tell where side chains
    # go: both halves share what that does to the map
    assert np.mean(np.sqrt(np.clip(claimed, 0.0, 1.0)) - np.clip(truth, 0.0, 1.0)) < 0.12


def test_summary_and_table_say_the_same(done: Path) -> None:
    summary = json.loads((done / "moved" / "summary.json").read_text())
    table = columns(done / "moved" / "fsc.csv")
    assert summary["resolution_angstrom"] <= summary["resolution_without_motion_angstrom"]
    assert summary["mean_fsc"] > summary["mean_fsc_without_motion"] + 0.015
    assert table["corrected"].mean() > table["corrected_without_motion"].mean()
    assert table["resolution_angstrom"] == pytest.approx(
        BOX * PIXEL_ANGSTROM / table["shell"], abs=1e-3
    )
    assert not (done / "moved" / "checkpoints").exists()


def test_without_motion_both_ways_to_the_numerator_agree(done: Path) -> None:
    # pulled along no motion (inside the support), and inserted as slices
    still = [read_map(done / name / "half1.mrc").data for name in ("still", "moved")]
    before = columns(done / "still" / "fsc.csv")
    assert np.abs(before["corrected"] - before["corrected_without_motion"]).max() < 0.05
    assert not np.allclose(still[0], still[1])


def test_halves_do_not_see_each_other(done: Path, data: Any, tmp_path: Path) -> None:
    # other images in half set 2 change nothing in half map 1, least squares included
    run = helper.KnownRun(data, tmp_path)
    second = np.flatnonzero(run.particles.half == 2)
    replaced = np.array(data.state)
    replaced[second] = (replaced[second] + 3) % helper.N_STATES
    run.latents.mean[second] = replaced[second, None]
    run.data = replace(data, state=replaced)
    reconstruct(run, ReconstructionSettings(iterations=4), tmp_path / "out")
    same, other = (
        read_map(tmp_path / "out" / f"half{number}.mrc").data
        - read_map(done / "solved" / f"half{number}.mrc").data
        for number in (1, 2)
    )
    assert np.abs(same).max() == 0
    assert np.abs(other).max() > 0


def test_one_model_for_both_halves_is_said(data: Any, tmp_path: Path) -> None:
    shared = pose_problem(helper.KnownRun(data, tmp_path, halves=False), ReconstructionSettings())
    apart = pose_problem(helper.KnownRun(data, tmp_path), ReconstructionSettings())
    assert shared.motion_is_shared
    assert not apart.motion_is_shared
    assert np.array_equal(shared.half, apart.half)  # rlnRandomSubset is honoured either way


class StopAfter(Interrupts):
    """Raises the flag at the so-manyth look at it."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._left = looks

    @property
    def requested(self) -> bool:
        self._left -= 1
        if self._left <= 0:
            self.signal_number = 15
        return self._left <= 0

    def raise_if_requested(self) -> None:
        if self.requested:
            super().raise_if_requested()


@pytest.mark.parametrize("looks", [1, 3, 8, 20])
def test_stopped_and_continued_equals_uninterrupted(
    done: Path, data: Any, tmp_path: Path, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinesphere.reconstruction.backprojection._NODES_A_MOTION_CALL", 100_000)
    problem = pose_problem(helper.KnownRun(data, tmp_path), ReconstructionSettings(iterations=4))
    checkpoints = half_module.HalfCheckpoints(tmp_path, problem.fingerprint)

    def silent(step: str, done: int, total: int) -> None:
        assert done <= total

    stops = 0
    while True:
        try:
            maps = half_module.reconstruct_half(
                problem, 1, checkpoints, StopAfter(looks + stops), silent
            )
            break
        except InterruptedRunError:
            stops += 1
    assert stops > 0
    expected = read_map(done / "solved" / "half1.mrc").data
    assert np.abs(maps.moved - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_finished_reconstruction_is_not_repeated(
    done: Path, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (done / "moved" / "map.mrc").stat().st_mtime_ns

    def fail(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr("kinesphere.reconstruction.job.reconstruct_half", fail)
    reconstruct(helper.KnownRun(data, done), ReconstructionSettings(), done / "moved")
    assert (done / "moved" / "map.mrc").stat().st_mtime_ns == before


def test_results_overlay_the_consensus(data: Any, tmp_path: Path) -> None:
    frame = DensityMap(
        np.zeros((BOX,) * 3, np.float32), PIXEL_ANGSTROM, np.array([-8.0, 4.0, 12.0]), (-4, 2, 6)
    )
    write_map(tmp_path / "consensus.mrc", frame.data, frame)
    run = helper.KnownRun(data, tmp_path, config={"map": str(tmp_path / "consensus.mrc")})
    run.centre_angstrom = frame.centre_angstrom
    reconstruct(run, ReconstructionSettings(), tmp_path / "out")
    for name in ("half1", "half2", "map", "mask", "local_resolution"):
        written = read_map(tmp_path / "out" / f"{name}.mrc")
        assert written.start_px == frame.start_px
        assert written.origin_angstrom == pytest.approx(frame.origin_angstrom)
        assert written.pixel_size_angstrom == pytest.approx(PIXEL_ANGSTROM)


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


def test_noise_gets_no_mask_of_a_few_voxels(data: Any, tmp_path: Path) -> None:
    # in which any two maps would agree
    problem = pose_problem(helper.KnownRun(data, tmp_path), ReconstructionSettings())
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, BOX, BOX, BOX)).astype(np.float32)
    halves = [half_module.HalfMaps(one, one) for one in noise]
    result = combine(problem, halves[0], halves[1])
    assert (result.mask > 0.5).sum() > 0.1 * problem.support.n_voxels
    assert abs(result.curves.corrected[5:].mean()) < 0.1


def test_a_mask_decides_where_the_fsc_is_taken(data: Any, tmp_path: Path) -> None:
    mask = sphere_mask(BOX, 14.0, 5.0)
    write_map(tmp_path / "mask.mrc", mask, PIXEL_ANGSTROM)
    settings = ReconstructionSettings(mask=tmp_path / "mask.mrc")
    reconstruct(helper.KnownRun(data, tmp_path), settings, tmp_path / "out")
    assert np.allclose(read_map(tmp_path / "out" / "mask.mrc").data, mask)


def _one_half(run: Any) -> None:
    run.latents.half[:] = 1


def _nothing(run: Any) -> None:
    """Leave the run as it is: the settings are at fault."""


def _outside(run: Any) -> None:
    for motion in run.motions.values():
        motion.reference = motion.reference + 1000.0


@pytest.mark.parametrize(
    ("spoil", "settings", "problem"),
    [
        (_one_half, ReconstructionSettings(), "no particle in half set 2"),
        (_outside, ReconstructionSettings(), "outside the box"),
        (_nothing, ReconstructionSettings(iterations=-1), "--iterations"),
        (_nothing, ReconstructionSettings(support_angstrom=0.0), "--support-angstrom"),
        (_nothing, ReconstructionSettings(mask=Path("nowhere.mrc")), "nowhere.mrc"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    data: Any,
    tmp_path: Path,
    spoil: Callable[[Any], None],
    settings: ReconstructionSettings,
    problem: str,
) -> None:
    run = helper.KnownRun(data, tmp_path)
    spoil(run)
    with pytest.raises(InputError, match=problem):
        reconstruct(run, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
