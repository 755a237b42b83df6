"""A run folder says what was asked for, and refuses to go on with anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.star_text import GROUPS, star_table
from kinesphere import __version__
from kinesphere.config import load_document
from kinesphere.errors import InputError
from kinesphere.particles import ParticleSet
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.run_folder import (
    describe_device,
    is_same_run,
    read_metrics,
    write_metrics,
    write_particles,
    write_run_file,
)

FRAME = {"centre_angstrom": [1.0, 2.0, 3.5]}
Again = Callable[..., bool]


@dataclass(frozen=True)
class Training:
    """Numbers that decide what is computed, and one that does not."""

    seed: int = 3
    threads: int | None = None


@dataclass(frozen=True)
class Config:
    """What a command was asked for."""

    particles: Path
    model: Path | None = None
    training: Training = field(default_factory=Training)


@pytest.fixture
def particles(tmp_path: Path) -> Path:
    """A file that a run was started with."""
    path = tmp_path / "particles.star"
    rows = ("1@a.mrcs 1 'first one'", "2@a.mrcs 2 x")
    path.write_text(GROUPS + star_table("ImageName OpticsGroup Remark", *rows))
    return path


@pytest.fixture
def again(particles: Path, tmp_path: Path) -> Again:
    """Start a run, and tell whether a second command would continue it."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_run_file(folder, "segments", Config(particles), [particles], FRAME, note="x")

    def ask(
        config: Config | None = None,
        method: str = "segments",
        inputs: list[Path] | None = None,
        frame: dict | None = None,
    ) -> bool:
        files = [particles] if inputs is None else inputs
        return is_same_run(folder, method, config or Config(particles), files, frame or FRAME)

    return ask


def test_run_yaml_records_what_how_and_on_what(again: Again, tmp_path: Path) -> None:
    assert again()
    document = load_document(tmp_path / "run" / "run.yaml")
    assert document["method"] == "segments"
    assert document["frame"] == FRAME
    assert document["note"] == "x"
    assert document["versions"]["kinesphere"] == __version__
    assert document["config"]["training"]["seed"] == 3
    (digest,) = document["inputs"].values()
    assert digest.startswith("sha256:")
    assert len(digest) == len("sha256:") + 64


def test_a_run_goes_on_with_other_threads_and_from_another_folder(
    again: Again, particles: Path, tmp_path: Path
) -> None:
    assert again(Config(particles, training=Training(threads=7)))
    moved = tmp_path / "elsewhere.star"
    particles.rename(moved)
    assert again(Config(moved), inputs=[moved])


def test_a_run_does_not_go_on_with_other_options(again: Again, particles: Path) -> None:
    with pytest.raises(InputError, match=r"started with training\.seed = 3, not 4"):
        again(Config(particles, training=Training(seed=4)))
    with pytest.raises(InputError, match="started with method = 'segments', not 'field'"):
        again(method="field")
    with pytest.raises(InputError, match="started with frame"):
        again(frame={"centre_angstrom": [1.0, 2.0, 3.0]})


def test_a_run_does_not_go_on_with_other_inputs(again: Again, particles: Path) -> None:
    with pytest.raises(InputError, match="started with model = None"):
        again(Config(particles, model=Path("m.pdb")))
    particles.write_text(particles.read_text().replace("first", "other"))
    with pytest.raises(InputError, match=r"particles\.star: is not the file that the run in"):
        again()


def test_an_empty_folder_is_new_and_a_full_one_is_refused(particles: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    assert not is_same_run(folder, "segments", Config(particles), [particles], FRAME)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        is_same_run(folder, "segments", Config(particles), [particles], FRAME)


def test_metrics_come_back_as_columns_with_the_half_set_first(tmp_path: Path) -> None:
    history = {
        half: [{"epoch": float(epoch), "loss": half / (3.0 * epoch)} for epoch in (1, 2)]
        for half in (1, 2)
    }
    write_metrics(tmp_path / "metrics.csv", history)
    found = read_metrics(tmp_path / "metrics.csv")
    assert list(found) == ["half", "epoch", "loss"]
    np.testing.assert_array_equal(found["half"], [1, 1, 2, 2])
    np.testing.assert_allclose(found["loss"], [1 / 3, 1 / 6, 2 / 3, 1 / 3], rtol=1e-8)


def test_no_epoch_leaves_no_file(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", {0: []})
    assert list(tmp_path.iterdir()) == []


def test_particles_keep_their_columns_and_get_latents_with_errors(
    particles: Path, tmp_path: Path
) -> None:
    mean = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)
    covariance = np.array([[[0.04, 0], [0, 1]], [[0.09, 0], [0, 4]]], np.float32)
    table = LatentTable(np.arange(2), mean, covariance, np.zeros(2, np.int64))
    write_particles(tmp_path / "out.star", ParticleSet.read(particles), table)
    written = ParticleSet.read(tmp_path / "out.star")
    assert written.column("rlnRemark").tolist() == ["first one", "x"]
    columns = {
        "rlnKinesphereLatent1": [0.5, 2.0],
        "rlnKinesphereLatent2": [-1.0, 0.25],
        "rlnKinesphereLatentError1": [0.2, 0.3],
        "rlnKinesphereLatentError2": [1.0, 2.0],
    }
    for name, values in columns.items():
        np.testing.assert_allclose(written.column(name).astype(float), values, rtol=1e-5)


def test_a_cpu_is_named_with_its_threads() -> None:
    assert describe_device(torch.device("cpu")) == f"CPU, {torch.get_num_threads()} threads"
