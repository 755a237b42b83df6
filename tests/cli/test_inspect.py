"""`kinesphere inspect` from the outside: a page, one JSON object, or one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinesphere.cli.main import main
from kinesphere.io.mrc import write_stack

STAR = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
1 krios[1] 300 2.7 0.1 1.5 16

data_particles

loop_
_rlnImageName #1
_rlnAngleRot #2
_rlnAngleTilt #3
_rlnAnglePsi #4
_rlnDefocusU #5
_rlnDefocusV #6
_rlnDefocusAngle #7
_rlnRandomSubset #8
1@a.mrcs 10 20 30 15000 14000 20 1
2@a.mrcs 70 20 30 16000 15000 20 2
"""


@pytest.fixture
def star(tmp_path: Path) -> Path:
    path = tmp_path / "particles.star"
    path.write_text(STAR)
    write_stack(tmp_path / "a.mrcs", np.random.default_rng(0).normal(size=(2, 16, 16)), 1.5)
    return path


def test_page_tells_the_essentials(star: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(star)]) == 0
    page = capsys.readouterr().out
    for words in (
        "particles.star",
        "RELION 3.1+ STAR",
        "krios[1]",
        "defocus 1.45 to 1.55 µm",
        "1 and 1",
        "! no origins",
    ):
        assert words in page


def test_json_is_one_object_on_stdout(star: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (star.parent / "a.mrcs").unlink()
    assert main(["inspect", str(star), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == {"path": str(star), "format": "RELION 3.1+ STAR", "n_particles": 2}
    assert found["optics_groups"][0]["pixel_size_angstrom"] == 1.5
    assert found["poses"]["present"] is True
    assert found["ctf"]["present"] is True
    assert found["contrast"] is None
    assert found["images"]["first_missing_stack"] == "a.mrcs"


def test_refusal_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.star"
    path.write_text("data_model_general\n_rlnPixelSize 1.25\n")
    assert main(["inspect", str(path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert "is a RELION model" in output.err


def test_another_pixel_size(star: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(star), "--json", "--pixel-size", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["optics_groups"][0]["nyquist_angstrom"] == 6.0
    assert main(["inspect", str(star), "--pixel-size", "-3"]) == 2
