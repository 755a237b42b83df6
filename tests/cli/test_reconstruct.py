"""`kinesphere reconstruct` on trained runs, from the command line to the files, and what RELION
says of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.small_set import simulate_set
from kinesphere.cli.main import main
from kinesphere.io.mrc import HEADER_BYTES, read_map, write_map

BOX, PIXEL_ANGSTROM = 32, 3.0
TRAINING = (
    "--epochs",
    "2",
    "--latent-dim",
    "1",
    "--n-nodes",
    "8",
    "--batch-size",
    "32",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images of an opening enzyme."""
    folder = tmp_path_factory.mktemp("data")
    simulate_set(folder, 300)
    return folder


def _train(data: Path, run: Path, *options: str) -> Path:
    inputs = [
        str(data / "particles.star"),
        "--model",
        str(data / "model.cif"),
        "--map",
        str(data / "consensus.mrc"),
    ]
    assert main(["segments", *inputs, "--out", str(run), *TRAINING, *options]) == 0
    return run


@pytest.fixture(scope="module")
def halves(data: Path) -> Path:
    """Two models, one a half set."""
    return _train(data, data / "halves", "--halves")


@pytest.fixture(scope="module")
def reconstructed(halves: Path) -> Path:
    """The run, reconstructed by least squares."""
    assert main(["reconstruct", str(halves), "--iterations", "2", "--threads", "1"]) == 0
    return halves / "reconstruction"


def test_everything_promised_is_there(reconstructed: Path, data: Path) -> None:
    names = {path.name for path in reconstructed.iterdir()}
    maps = {"half1.mrc", "half2.mrc", "map.mrc", "mask.mrc", "local_resolution.mrc"}
    assert names == maps | {"fsc.csv", "summary.json"}
    consensus = read_map(data / "consensus.mrc")
    for name in maps:
        written = read_map(reconstructed / name)
        assert written.box_px == BOX
        assert written.pixel_size_angstrom == pytest.approx(PIXEL_ANGSTROM)
        assert np.allclose(written.origin_angstrom, consensus.origin_angstrom)
    density = read_map(reconstructed / "map.mrc").data
    assert np.corrcoef(density.ravel(), consensus.data.ravel())[0, 1] > 0.7
    assert json.loads((reconstructed / "summary.json").read_text())["iterations"] == 2


@pytest.mark.oracle
def test_relion_postprocess_takes_the_half_maps_as_they_are(
    reconstructed: Path, relion: Callable[[str], Path], tmp_path: Path
) -> None:
    command = [
        relion("relion_postprocess"),
        "--i",
        str(reconstructed / "half1.mrc"),
        "--o",
        str(tmp_path / "post"),
    ]
    done = subprocess.run(
        [*command, "--mask", str(reconstructed / "mask.mrc")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "post.mrc").exists(), done.stderr
    assert read_map(tmp_path / "post.mrc").pixel_size_angstrom == pytest.approx(PIXEL_ANGSTROM)
    assert "rlnFinalResolution" in (tmp_path / "post.star").read_text()


def test_one_model_for_all_images_is_reconstructed_and_said(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _train(data, data / "one")
    assert main(["reconstruct", str(run), "--threads", "1"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "without motion" in said
    assert "One motion model saw both half sets" in said


def test_a_field_is_reconstructed_by_the_same_command(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = data / "field"
    inputs = [
        str(data / "particles.star"),
        "--map",
        str(data / "consensus.mrc"),
        "--n-gaussians",
        "60",
    ]
    assert main(["field", *inputs, "--out", str(run), *TRAINING]) == 0
    assert main(["reconstruct", str(run), "--iterations", "1", "--threads", "1"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "without motion" in said
    assert "One motion model" not in said  # a field always has two
    density, consensus = (
        read_map(path).data for path in (run / "reconstruction" / "map.mrc", data / "consensus.mrc")
    )
    assert np.corrcoef(density.ravel(), consensus.ravel())[0, 1] > 0.7


def test_homogeneous_says_so_and_goes_where_it_is_told(
    halves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["reconstruct", str(halves), "--homogeneous", "--out", str(tmp_path / "still")]) == 0
    )
    assert "Resolution without motion" in capsys.readouterr().err
    assert (tmp_path / "still" / "map.mrc").exists()


def test_bad_input_ends_in_one_line_and_exit_code_2(
    halves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_map(tmp_path / "other_box.mrc", np.ones((20, 20, 20)), PIXEL_ANGSTROM)
    write_map(tmp_path / "empty.mrc", np.zeros((BOX, BOX, BOX)), PIXEL_ANGSTROM)
    write_map(tmp_path / "nan.mrc", np.ones((BOX, BOX, BOX)), PIXEL_ANGSTROM)
    with (tmp_path / "nan.mrc").open("r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(np.float32(np.nan).tobytes())
    out = ["--out", str(tmp_path / "out")]
    for options, problem in (
        (["--mask", str(tmp_path / "other_box.mrc")], "has 20 px"),
        (["--mask", str(tmp_path / "empty.mrc")], "is empty"),
        (["--mask", str(tmp_path / "nan.mrc")], "nan.mrc"),
        (["--mask", str(tmp_path / "missing.mrc")], "missing.mrc"),
        (["--iterations", "-3"], "--iterations"),
        (["--threads", "0"], "--threads"),
    ):
        capsys.readouterr()
        assert main(["reconstruct", str(halves), *out, *options]) == 2
        error = capsys.readouterr().err
        assert problem in error
        assert error.count("\n") == 1, error
        assert not (tmp_path / "out").exists()
    assert main(["reconstruct", str(tmp_path), *out]) == 2
