"""A stopped run, continued by the same command, ends with the very latents of a run that was never
stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.small_set import simulate_set
from kinesphere.cli.main import main

OPTIONS = (
    "--epochs",
    "4",
    "--latent-dim",
    "1",
    "--n-nodes",
    "8",
    "--batch-size",
    "16",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small particle set, and the run on it that nothing stopped."""
    folder = tmp_path_factory.mktemp("data")
    simulate_set(folder, 320, seed=6)
    assert main(_segments(folder, folder / "whole")) == 0
    return folder


def _segments(data: Path, run: Path) -> list[str]:
    inputs = [
        str(data / "particles.star"),
        "--model",
        str(data / "model.cif"),
        "--map",
        str(data / "consensus.mrc"),
    ]
    return ["segments", *inputs, "--out", str(run), *OPTIONS]


def _start(data: Path, run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kinesphere", *_segments(data, run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def _wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _latents(run: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(run / "latents.npz") as stored:
        return stored["mean"], stored["std"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_stopped_and_continued_equals_uninterrupted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    run = tmp_path / "run"
    stopped = _start(data, run)
    _wait_until((run / "metrics.csv").exists, stopped)  # the first epoch of four is over
    stopped.send_signal(number)
    message = stopped.communicate()[1]
    assert stopped.returncode == code
    assert not (run / "latents.npz").exists()
    assert (run / "checkpoints" / "latest").exists()
    if code > 0:
        assert message.splitlines()[-1].startswith("kinesphere: error: Stopped by SIG")
        assert "The same command continues" in message

    assert main(_segments(data, run)) == 0
    assert "Continuing at epoch" in capsys.readouterr().err
    for found, expected in zip(_latents(run), _latents(data / "whole"), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert main(_segments(data, run)) == 0
    assert "finished" in capsys.readouterr().err


def test_stopped_before_training_leaves_nothing(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped = _start(data, run)
    _wait_until(run.exists, stopped)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate()
    assert stopped.returncode == 143
    assert not run.exists() or (run / "checkpoints" / "latest").exists()
