"""`kinesphere validate` on a molecule that moves and on one that does not, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinesphere import load
from kinesphere.cli.main import main
from kinesphere.validation.held_out import held_out_gain, judge
from kinesphere.validation.record import ValidationRecord

TRAINING = (
    "--epochs",
    "6",
    "--latent-dim",
    "1",
    "--n-nodes",
    "8",
    "--batch-size",
    "32",
    "--threads",
    "1",
)
IMAGES = ("--n", "400", "--box", "32", "--pixel-size", "3", "--snr", "0.3", "--seed", "5")
QUICK = ("--n-images", "300", "--n-permutations", "40", "--n-seeds", "2", "--threads", "1")


def _run(folder: Path, *simulated: str, options: tuple[str, ...] = ()) -> Path:
    assert main(["simulate", "--out", str(folder / "set"), *IMAGES, *simulated]) == 0
    inputs = [str(folder / "set" / "particles.star"), "--model", str(folder / "set" / "model.cif")]
    assert main(["segments", *inputs, "--out", str(folder / "run"), *TRAINING, *options]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Opening adenylate kinase, by two half-set models."""
    return _run(tmp_path_factory.mktemp("moving"), "--n-states", "7", options=("--halves",))


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, in one state."""
    return _run(tmp_path_factory.mktemp("still"), "--n-states", "1", options=("--halves",))


def _record(run: Path) -> ValidationRecord:
    return ValidationRecord.load(run / "validation" / "validation.json")


def test_motion_that_is_there_is_supported(
    moving: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(moving), *QUICK]) == 0
    said = capsys.readouterr().err
    assert "Verdict: motion supported" in said
    record = _record(moving)
    by_name = {control.name: control for control in record.controls}
    gain = by_name["held-out"]
    assert gain.value > 0.3
    assert len(gain.null) == 40
    assert max(gain.null) < 0.0  # another image's conformation is worse than none
    assert len(by_name["shuffled-poses"].null) == len(by_name["phase-randomised"].null) == 2
    assert all(control.passed for control in record.controls)
    stored = json.loads((moving / "validation" / "validation.json").read_text(encoding="utf-8"))
    assert set(stored) == {"verdict", "reason", "controls", "not_tested"}


def test_motion_that_is_not_there_is_not(still: Path) -> None:
    assert main(["validate", str(still), *QUICK]) == 0
    record = _record(still)
    assert record.verdict == "no motion beyond noise"
    gain = record.controls[0]
    assert gain.value < 0.05
    assert not gain.passed


def test_another_control_keeps_what_was_found(
    moving: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (moving / "validation" / "validation.json").unlink(missing_ok=True)
    assert main(["validate", str(moving), "--control", "held-out", *QUICK]) == 0
    first = _record(moving)
    assert [control.name for control in first.controls] == ["held-out"]
    assert any("--control shuffled-poses" in command for _, command in first.not_tested)
    assert (
        main(["validate", str(moving), "--control", "shuffled-poses", *QUICK, "--n-seeds", "1"])
        == 0
    )
    second = _record(moving)
    assert [control.name for control in second.controls] == ["held-out", "shuffled-poses"]
    assert second.controls[0] == first.controls[0]  # the split follows from the seed
    capsys.readouterr()


def test_images_are_judged_by_the_model_they_did_not_train(moving: Path) -> None:
    run = load(moving)
    rows = np.arange(60)
    observations = run.observations(rows)
    judged = judge(run, observations, run.latents.half[rows])
    assert [len(part.observations) for part in judged] == [
        int((run.latents.half[rows] == h).sum()) for h in (2, 1)
    ]
    gain = held_out_gain(judged, seed=0)
    assert len(gain.per_image) == 60
    assert len(gain.permuted) == 0


def test_a_run_with_an_encoder_is_judged_by_the_same_posterior(
    moving: Path, tmp_path: Path
) -> None:
    inputs = [
        str(moving.parent / "set" / "particles.star"),
        "--model",
        str(moving.parent / "set" / "model.cif"),
    ]
    options = ["--inference", "vae", *TRAINING, "--epochs", "2"]
    assert main(["segments", *inputs, "--out", str(tmp_path / "run"), *options]) == 0
    assert main(["validate", str(tmp_path / "run"), "--control", "held-out", *QUICK]) == 0
    record = _record(tmp_path / "run")
    assert np.isfinite(record.controls[0].value)
    assert any("--halves" in command for _, command in record.not_tested)
    assert "had seen these images" in record.reason


def test_bad_input_ends_in_one_line_and_exit_code_2(
    moving: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, problem in (
        (["--n-images", "3"], "--n-images"),
        (["--n-seeds", "0"], "--n-seeds"),
        (["--phase-resolution", "-2"], "--phase-resolution"),
        (["--control", "luck"], "luck"),
        (["--threads", "0"], "--threads"),
    ):
        capsys.readouterr()
        assert main(["validate", str(moving), *options]) == 2
        error = capsys.readouterr().err
        assert problem in error
        assert error.count("\n") == 1, error
    assert main(["validate", str(tmp_path)]) == 2
    assert not any(tmp_path.iterdir())


def test_a_wrong_model_is_trained_with_and_compared(
    moving: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--control", "wrong-model", "--domain", "A:122-159", *QUICK]
    assert main(["validate", str(moving), *options]) == 0
    by_name = {control.name: control for control in _record(moving).controls}
    control = by_name["wrong-model"]
    assert len(control.null) == 8
    assert abs(control.value) < 1.0
    assert "A:122-159" in control.verdict
    folder = moving / "validation" / "wrong-model"
    assert {path.name for path in folder.iterdir()} == {"wrong.cif", "run", "still", "moved"}
    assert not [command for _, command in _record(moving).not_tested if "wrong-model" in command]
    assert (
        main(["validate", str(moving), "--control", "wrong-model", "--domain", "A:5-7", *QUICK])
        == 2
    )
    assert "--domain" in capsys.readouterr().err
