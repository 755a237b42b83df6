"""`kinesphere evaluate` on a small run of its own: one JSON object, and a limit that the run does
not pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.small_set import simulate_set
from kinesphere import load
from kinesphere.cli.main import main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred bright images of adenylate kinase, and a run that has hardly begun to learn."""
    folder = tmp_path_factory.mktemp("data")
    simulate_set(folder / "set", 200, seed=3)
    inputs = [str(folder / "set" / "particles.star"), "--model", str(folder / "set" / "model.cif")]
    quick = ["--epochs", "1", "--latent-dim", "1", "--n-nodes", "4", "--threads", "1"]
    assert main(["segments", *inputs, "--out", str(folder / "run"), *quick]) == 0
    return folder


def test_prints_one_json_object(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    truth = ["--truth", str(data / "set" / "truth.npz")]
    options = [
        "--distance",
        "A:122-159/A:1-29,A:60-121,A:160-214",
        "--hinge",
        "A:122",
        "--threads",
        "1",
    ]
    assert main(["evaluate", str(data / "run"), *truth, *options]) == 0
    printed = capsys.readouterr()
    scores = json.loads(printed.out)
    assert scores["n"] == 200
    assert scores["n_residues"] == 214
    assert scores["still_rmsd_median"] > 2.0
    assert scores["ideal_r_main_motion"] > 0.99  # five states at an SNR of 1
    assert scores["ideal_ca_rmsd_median"] < 0.1 * scores["still_rmsd_median"]
    assert scores["r_main_motion"] < scores["ideal_r_main_motion"]
    assert scores["fraction_of_ideal"] == pytest.approx(
        scores["r_main_motion"] / scores["ideal_r_main_motion"], 1e-3
    )
    assert scores["distances"][0]["ideal_r"] > 0.99
    assert scores["fraction_of_ideal_latent_smooth_r_coordinate"] == pytest.approx(
        [scores["latent_smooth_r_coordinate"][0] / scores["ideal_r_coordinate"][0]], 1e-3
    )
    assert "coordinate 1 from all latents, Pearson" in printed.err
    assert scores["hinge_nearest_boundary"] >= 0


def test_scores_that_are_not_defined_are_null(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(data / "set" / "truth.npz") as stored:
        arrays = dict(stored)
    arrays["state"] = np.zeros(200, np.int32)
    arrays["ca_states"] = arrays["ca_states"][:1]
    arrays["state_coordinate"] = arrays["state_coordinate"][:1]
    arrays["coordinate"] = np.zeros((200, 1))
    np.savez(tmp_path / "static.npz", **arrays)
    assert (
        main(
            [
                "evaluate",
                str(data / "run"),
                "--truth",
                str(tmp_path / "static.npz"),
                "--threads",
                "1",
            ]
        )
        == 0
    )
    scores = json.loads(capsys.readouterr().out)
    assert (
        scores["r_main_motion"]
        is scores["ideal_r_main_motion"]
        is scores["fraction_of_ideal"]
        is None
    )
    assert scores["ideal_ca_rmsd_median"] == 0.0


def test_input_errors_leave_standard_output_empty(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(data / "set" / "truth.npz") as stored:
        arrays = dict(stored)
    np.savez(
        tmp_path / "half.npz",
        **{**arrays, "state": arrays["state"][:100], "coordinate": arrays["coordinate"][:100]},
    )
    for truth, words in (
        (tmp_path / "absent.npz", "is not there"),
        (tmp_path / "half.npz", "tells of 100 images"),
    ):
        assert main(["evaluate", str(data / "run"), "--truth", str(truth)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert words in printed.err
    assert (
        main(["evaluate", str(tmp_path / "norun"), "--truth", str(data / "set" / "truth.npz")]) == 2
    )


def test_each_half_set_is_scored_by_its_own_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = [str(data / "set" / "particles.star"), "--model", str(data / "set" / "model.cif")]
    quick = ["--halves", "--epochs", "1", "--latent-dim", "1", "--n-nodes", "4", "--threads", "1"]
    assert main(["segments", *inputs, "--out", str(tmp_path / "run"), *quick]) == 0
    run = load(tmp_path / "run")
    for label in (1, 2):  # one image leaves the other half without any
        image = int(np.flatnonzero(run.latents.half == label)[0])
        assert run.residues([image]) == pytest.approx(
            run.decode(run.latents.mean[[image]], label), abs=1e-4
        )
    capsys.readouterr()
    options = [
        "--truth",
        str(data / "set" / "truth.npz"),
        "--hinge",
        "A:122",
        "--no-ideal",
        "--threads",
        "1",
    ]
    assert main(["evaluate", str(tmp_path / "run"), *options]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 200
