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

BOX, PIXEL_ANGSTROM = helper.BOX, helper.PIXEL_ANGSTROM


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
