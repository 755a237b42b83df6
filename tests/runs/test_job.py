"""From files to a run folder: who trains, who validates, what is refused before it is begun."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.brief_run import N_IMAGES, brief_method
from helpers.star_text import GROUPS, star_table
from kinesphere.errors import InputError
from kinesphere.io.structure import read_model, write_model
from kinesphere.particles import ParticleSet
from kinesphere.runs.job import choose_validation, prepare_job, require_both_halves, run_job

Halves = Callable[[list[int], list[int]], ParticleSet]


@pytest.fixture
def halves(tmp_path: Path) -> Halves:
    """Make particles of given half sets and images of a stack."""

    def make(half: list[int], slot: list[int]) -> ParticleSet:
        rows = [f"{s}@a.mrcs 1 {h}" for h, s in zip(half, slot, strict=True)]
        path = tmp_path / "particles.star"
        path.write_text(GROUPS + star_table("ImageName OpticsGroup RandomSubset", *rows))
        return ParticleSet.read(path)

    return make


def test_the_validation_subset_is_a_part_of_each_half_set(halves: Halves) -> None:
    half = [1] * 40 + [2] * 80
    particles = halves(half, list(range(1, 121)))
    chosen = choose_validation(particles, 0.1, seed=5)
    assert [int(chosen[particles.half == number].sum()) for number in (1, 2)] == [4, 8]
    np.testing.assert_array_equal(chosen, choose_validation(particles, 0.1, seed=5))
    assert (chosen != choose_validation(particles, 0.1, seed=6)).any()
    assert not choose_validation(particles, 0.0, seed=5).any()


def test_entries_that_share_an_image_are_validated_together(halves: Halves) -> None:
    slot = [1 + row // 2 for row in range(80)]  # every image twice, as expanded symmetry has them
    chosen = choose_validation(halves([1] * 40 + [2] * 40, slot), 0.25, seed=0)
    assert chosen.sum() == 20
    np.testing.assert_array_equal(chosen[::2], chosen[1::2])


def test_particles_of_one_half_set_are_refused(halves: Halves, tmp_path: Path) -> None:
    require_both_halves(halves([1, 1, 2, 2], [1, 2, 3, 4]), tmp_path)
    with pytest.raises(InputError, match="half set 2 has 1 of 4 particles"):
        require_both_halves(halves([1, 1, 1, 2], [1, 2, 3, 4]), tmp_path)


def test_numbers_left_open_are_filled_in_before_anything_starts(brief_set: Path) -> None:
    method = brief_method(brief_set)
    job = prepare_job(method, brief_set / "nowhere")
    assert method.options.segments.n_segments is None
    assert job.options.segments.n_segments == 13
    assert len(job.particles) == N_IMAGES
    assert not job.is_validation.any()
    np.testing.assert_array_equal(job.training_rows(0), np.arange(N_IMAGES))
    assert job.frame["centre_angstrom"] == pytest.approx(job.molecule.centre_angstrom)
    assert not (brief_set / "nowhere").exists()


def test_a_finished_run_is_left_as_it_is(brief_set: Path, brief_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in brief_run.rglob("*") if path.is_file()}
    run_job(brief_method(brief_set), brief_run)
    after = {path: path.stat().st_mtime_ns for path in brief_run.rglob("*") if path.is_file()}
    assert after == before
    for name in ("run.yaml", "metrics.csv", "latents.npz", "particles.star", "model.cif"):
        assert brief_run / name in before


def test_the_same_job_gives_the_same_run(brief_set: Path, brief_run: Path, tmp_path: Path) -> None:
    run_job(brief_method(brief_set), tmp_path / "again")
    with (
        np.load(brief_run / "latents.npz") as first,
        np.load(tmp_path / "again/latents.npz") as new,
    ):
        for name in first.files:
            np.testing.assert_array_equal(new[name], first[name])


def test_a_model_that_the_images_do_not_show_leaves_no_folder(
    brief_set: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(brief_set, tmp_path / "set"))
    model = read_model(data / "model.cif")
    away = model.positions_angstrom + np.array([20.0, 0.0, 0.0])
    write_model(data / "model.cif", model, away)
    method = brief_method(data)
    method = method.with_options(map=None)
    with pytest.raises(InputError, match=r"model\.cif: "):
        run_job(method, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_job_does_not_go_on_in_a_folder(brief_set: Path, brief_run: Path) -> None:
    method = brief_method(brief_set)
    other = method.with_options(training=replace(method.options.training, seed=1))
    with pytest.raises(InputError, match=r"was started with training\.seed = 0, not 1"):
        run_job(other, brief_run)
