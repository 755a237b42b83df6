"""Ranks start as torchrun starts them; one that fails ends all, with one line and one exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]
PROGRAM = ("-m", "kinesphere")


@pytest.fixture
def segments(folder: Path, tmp_path: Path) -> Callable[[str], Sequence[str]]:
    """The command of a short run on a file of particles of the set."""
    data = folder / "set"

    def command(particles: str) -> Sequence[str]:
        options = ["--epochs", "1", "--latent-dim", "1", "--n-nodes", "8", "--threads", "1"]
        inputs = [
            str(data / particles),
            "--model",
            str(data / "model.cif"),
            "--map",
            str(data / "consensus.mrc"),
        ]
        return [*PROGRAM, "segments", *inputs, "--out", str(tmp_path / "run"), *options]

    return command


def test_an_input_error_of_one_rank_ends_all_with_its_line(
    segments: Callable[[str], Sequence[str]], start_ranks: Start
) -> None:
    """The second rank cannot read the file that the first one can, as on a machine that lacks a
    disk."""
    ended = start_ranks([segments("particles.star"), segments("nowhere.star")])
    assert ended.codes == [2, 2]
    (line,) = ended.lines
    assert line.startswith("kinesphere: error: rank 1 of 2 on ")
    assert "nowhere.star" in line


def test_an_input_error_of_all_ranks_is_said_once(
    segments: Callable[[str], Sequence[str]], start_ranks: Start, tmp_path: Path
) -> None:
    ended = start_ranks([segments("nowhere.star")] * 2)
    assert ended.codes == [2, 2]
    assert len(ended.lines) == 1, ended.lines
    assert not (tmp_path / "run").exists()


def test_a_usage_error_is_said_once(start_ranks: Start) -> None:
    ended = start_ranks([[*PROGRAM, "segments", "--no-such-option"]] * 2)
    assert ended.codes == [2, 2]
    assert len(ended.lines) == 1, ended.lines


def test_a_rank_that_dies_without_a_word_ends_the_others(start_ranks: Start) -> None:
    script = (
        "import os, time\nfrom kinesphere.ranks import joined\nwith joined() as ranks:\n  "
        "  ranks.barrier()\n"
    )
    waits, dies = script + "    ranks.barrier()\n", script + "    os._exit(9)\n"
    ended = start_ranks([["-c", waits], ["-c", dies]])
    assert ended.codes == [1, 9]
    assert "another rank has gone without a word" in ended.lines[-1]


def test_torchrun_starts_it_and_what_is_not_parallel_runs_once() -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *PROGRAM,
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run(
        [*command, "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=120,
    )
    assert done.stdout.count("kinesphere") == 1
