"""`kinesphere structures --errors` on a small run of segments: two half sets, and no images kept
for validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.small_set import simulate_set
from kinesphere import load
from kinesphere.cli.main import main

IMAGES = [17, 40, 3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that have hardly begun to learn; what they claim to know is measured all the same."""
    folder = tmp_path_factory.mktemp("data")
    simulate_set(folder / "set", 64, seed=3)
    inputs = [str(folder / "set" / "particles.star"), "--model", str(folder / "set" / "model.cif")]
    quick = ["--halves", "--epochs", "1", "--latent-dim", "2", "--n-nodes", "4", "--threads", "1"]
    assert main(["segments", *inputs, "--out", str(folder / "run"), *quick]) == 0
    return folder / "run"


def test_errors_of_segments_lack_what_training_left(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "some.npz"
    capsys.readouterr()
    chosen = ["--images", ",".join(map(str, IMAGES)), "--errors"]
    assert main(["structures", str(run), *chosen, "--out", str(out)]) == 0
    assert "did not measure what training leaves uncertain" in " ".join(
        capsys.readouterr().err.split()
    )
    errors = load(run).displacement_errors(IMAGES)
    with np.load(out) as stored:
        assert stored["index"].tolist() == IMAGES
        assert stored["displacement"] == pytest.approx(errors.displacement, abs=1e-4)
        assert stored["displacement_error"] == pytest.approx(errors.total, rel=1e-5)
        assert not stored["training_error"].any()


def test_without_the_option_nothing_is_added(run: Path, tmp_path: Path) -> None:
    assert main(["structures", str(run), "--images", "1", "--out", str(tmp_path / "one.npz")]) == 0
    with np.load(tmp_path / "one.npz") as stored:
        assert "displacement_error" not in stored.files


def test_a_latent_without_an_error_is_refused_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(run / "latents.npz") as stored:
        arrays = dict(stored)
    whole = (run / "latents.npz").read_bytes()
    arrays["covariance"][5] = np.nan
    np.savez(run / "latents.npz", **arrays)
    capsys.readouterr()
    try:
        assert main(["structures", str(run), "--errors", "--out", str(tmp_path / "some.npz")]) == 2
    finally:
        (run / "latents.npz").write_bytes(whole)
    printed = capsys.readouterr().err
    assert "particle 5 is not finite" in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_structures_of_chosen_images(run_folder: Path) -> None:
    out = run_folder / "some.npz"
    assert main(["structures", str(run_folder), "--images", "4,2", "--out", str(out)]) == 0
    with np.load(out) as stored:
        assert stored["index"].tolist() == [4, 2]


def test_an_image_that_is_not_there_is_refused_in_one_line(
    run_folder: Path, refused: Callable[..., str]
) -> None:
    out = run_folder / "a.npz"
    line = refused("structures", run_folder, "--images", "4,900", "--out", out)
    assert "particle 900 is not in" in line
