"""`kinesphere simulate` makes sets that other parts read, and says in one line what it cannot
do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinesphere.cli.main import main
from kinesphere.io.mrc import ImageStack
from kinesphere.io.structure import write_model
from kinesphere.simulate.ensembles import adenylate_kinase

SMALL = ["--n", "6", "--box", "32", "--pixel-size", "3.5"]


def test_bundled_molecule_without_arguments(tmp_path: Path) -> None:
    assert (
        main(["simulate", "--out", str(tmp_path), *SMALL, "--n-states", "3", "--noise", "coloured"])
        == 0
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "README.md",
        "consensus.mrc",
        "model.cif",
        "particles.mrcs",
        "particles.star",
        "truth.npz",
    ]
    assert ImageStack(tmp_path / "particles.mrcs").shape == (6, 32, 32)
    assert "1AKE" in (tmp_path / "README.md").read_text()


def test_two_hinges_of_a_file(tmp_path: Path) -> None:
    write_model(tmp_path / "model.pdb", adenylate_kinase(1).model)
    hinges = ["--hinge", "A:122-159/A:122/0/40", "A:30-59/A:30/0/20"]
    out = tmp_path / "out"
    assert (
        main(
            [
                "simulate",
                str(tmp_path / "model.pdb"),
                *hinges,
                "--n-states",
                "3",
                *SMALL,
                "--out",
                str(out),
            ]
        )
        == 0
    )
    truth = np.load(out / "truth.npz")
    assert truth["coordinate"].shape == (6, 2)
    assert truth["ca_states"].shape == (9, 214, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.pdb"], "absent.pdb: there is no such file"),
        (["--hinge", "A:1-5/A:1/0/9"], "needs one structure"),
        (["--box", "16"], "the molecule is up to"),
        (["--snr", "0"], "--snr"),
        (["--n-states", "0"], "--n-states"),
    ],
)
def test_input_errors_end_with_one_line_and_exit_code_2(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["simulate", "--out", str(out), *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert words in message
    assert "\n" not in message
    assert not out.exists()
