"""`kinesphere volumes` on trained runs: files in the frame of the consensus, repeats, and what is
refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import kinesphere
from helpers.small_set import simulate_set
from kinesphere.cli.main import main
from kinesphere.errors import InputError
from kinesphere.io.mrc import read_map

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
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two half-set models on small images of an opening enzyme."""
    data = tmp_path_factory.mktemp("data")
    simulate_set(data, 300)
    inputs = [
        str(data / "particles.star"),
        "--model",
        str(data / "model.cif"),
        "--map",
        str(data / "consensus.mrc"),
    ]
    assert main(["segments", *inputs, "--out", str(data / "run"), *TRAINING, "--halves"]) == 0
    return data / "run"


def test_volumes_overlay_the_consensus_and_are_not_made_twice(trained: Path) -> None:
    command = ["volumes", str(trained), "--steps", "2", "--threads", "1"]
    names = ["kernel_01", "kernel_02", "decoder_01", "decoder_02"]
    assert main(command) == 0
    folder, consensus = trained / "volumes", read_map(trained.parent / "consensus.mrc")
    for name in names:
        for suffix in ("", "_half1", "_half2"):
            written = read_map(folder / f"{name}{suffix}.mrc")
            np.testing.assert_allclose(
                written.origin_angstrom, consensus.origin_angstrom, atol=1e-3
            )
            assert written.pixel_size_angstrom == pytest.approx(consensus.pixel_size_angstrom)
            assert written.data.std() > 0
    summary = json.loads((folder / "volumes.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in summary["volumes"]] == names
    assert (folder / "residues.csv").read_text(encoding="utf-8").count("\n") == 215
    assert summary["residues"]["kernel"]["n"] == summary["residues"]["decoder"]["n"] == 214
    assert all(np.isfinite(summary["decoder"]["gain_nats"]))
    assert all(-1 <= value <= 1 for value in summary["difference_correlation_of_methods"])
    assert (folder / "fsc.csv").read_text(encoding="utf-8").count("\n") == 1 + 4 * 15
    before = (folder / "kernel_01.mrc").stat().st_mtime_ns
    assert main(command) == 0
    assert (folder / "kernel_01.mrc").stat().st_mtime_ns == before
    assert main(["volumes", str(trained), "--at", "0", "--threads", "1", "--method", "kernel"]) == 0
    assert {path.name for path in folder.glob("*.mrc")} == {
        f"kernel_01{s}.mrc" for s in ("", "_half1", "_half2")
    }


def test_a_loaded_run_makes_the_volume_that_the_command_writes(trained: Path) -> None:
    assert main(["volumes", str(trained), "--at", "0.3", "--threads", "1"]) == 0
    run = kinesphere.load(trained)
    for method in ("kernel", "decoder"):
        written = read_map(trained / "volumes" / f"{method}_01.mrc")
        found = run.volume([0.3], method)
        np.testing.assert_allclose(found.data, written.data, atol=1e-5 * np.abs(written.data).max())
        np.testing.assert_allclose(found.origin_angstrom, written.origin_angstrom, atol=1e-3)
    with pytest.raises(InputError, match="no place of this latent space"):
        kinesphere.load(trained).volume([0.1, 0.2])


@pytest.mark.parametrize(
    "options",
    [
        ("--clusters", "0"),
        ("--traverse", "9"),
        ("--steps", "0"),
        ("--at", "a"),
        ("--at", "1,2,3"),
        ("--at", "nan"),
        ("--fraction", "0"),
        ("--at", "0", "--clusters", "2"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    trained: Path, tmp_path: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["volumes", str(trained), "--out", str(out), *options]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not out.exists()


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    assert main(["volumes", str(tmp_path)]) == 2
