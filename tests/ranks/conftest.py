"""Processes that work on one job, started as torchrun and Slurm start them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from helpers import rank_jobs
from helpers.small_set import simulate_set
from kinesphere.ranks import ALONE

JOBS = Path(rank_jobs.__file__)
SOURCE = Path(__file__).resolve().parents[2] / "src"
_SECONDS = 300


@dataclass(frozen=True)
class Ended:
    """How processes ended: their exit codes, and what they wrote to standard error, line by
    line."""

    codes: list[int]
    lines: list[str]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def torchrun_variables(rank: int, size: int) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}


def slurm_variables(rank: int, size: int) -> dict[str, str]:
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_LOCALID": str(rank),
        "SLURM_JOB_ID": "12",
        "SLURM_STEP_NODELIST": "localhost",
    }


def start(
    commands: Sequence[Sequence[str]], variables: Callable[[int, int], dict[str, str]]
) -> Ended:
    """Run one command a rank to the end."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    common = {
        **os.environ,
        **meeting,
        "PYTHONPATH": str(SOURCE),
        "COLUMNS": "500",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**common, **variables(rank, len(commands))},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    try:
        errors = [process.communicate(timeout=_SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    lines = [line for error in errors for line in error.splitlines()]
    return Ended([process.returncode for process in processes], lines)


@pytest.fixture(scope="session")
def start_ranks() -> Callable[[Sequence[Sequence[str]]], Ended]:
    """Run commands as the ranks of one job: `start_ranks([command of rank 0, command of rank
    1])`."""
    return lambda commands: start(commands, torchrun_variables)


@pytest.fixture(scope="session")
def jobs() -> ModuleType:
    """What the ranks do."""
    return rank_jobs


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, jobs: ModuleType) -> Iterator[Path]:
    """What one, two and four ranks made of the same small set."""
    folder = tmp_path_factory.mktemp("ranks")
    simulate_set(folder / "set", rank_jobs.N_IMAGES, seed=6)
    jobs.work(folder, ALONE)
    shutil.copytree(folder / "1-ranks" / "stopped", folder / "for-2-ranks")
    for size, variables in ((2, slurm_variables), (4, torchrun_variables)):
        ended = start([[str(JOBS), str(folder)]] * size, variables)
        assert ended.codes == [0] * size, ended.lines
    jobs.run_job(
        jobs.configs(folder / "set")["segments-marginal"], folder / "4-ranks" / "stopped", ALONE
    )
    yield folder
    shutil.rmtree(folder)
