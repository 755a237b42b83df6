"""What a process costs: CPU-seconds and memory of a child, and a rate from two of them with the
start-up taken out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LINES_OF_A_FAILURE = 3
# A process inherits the memory peak of what it was forked from: so it is forked from one that is
# next to nothing.
_WATCH = """
import json, os, subprocess, sys
child = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(child.pid, 0)
child.returncode = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w") as file:
    json.dump([child.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss], file)
"""


class ProcessError(RuntimeError):
    """A measured process failed; the message holds the end of what it printed."""


@dataclass(frozen=True)
class Used:
    """What a finished process has used.

    Attributes
    ----------
    cpu_seconds
        User and system time of all its threads.
    peak_gb
        Most memory resident at once (VmHWM), 10⁹ bytes.
    """

    cpu_seconds: float
    peak_gb: float


def measure(command: Sequence[str | Path], log: Path) -> Used:
    """Run a command with one thread for numerical libraries, and measure what it uses.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File for what it prints; overwritten.

    Returns
    -------
    Used
        Of this process, its own children included once it has waited for them.

    Raises
    ------
    ProcessError
        If it cannot be started, or ends with another exit code than 0.
    """
    one = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    found = log.with_name(f"{log.name}.json")
    with log.open("wb") as file:
        watcher = [sys.executable, "-S", "-c", _WATCH, str(found), *words]
        subprocess.run(
            watcher, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **one}, check=False
        )
    last = (
        log.read_text(errors="replace")
        .replace("\r", "\n")
        .strip()
        .splitlines()[-_LINES_OF_A_FAILURE:]
    )
    said = " / ".join(line.strip() for line in last)
    if not found.exists():
        raise ProcessError(f"could not be started: {said}")
    code, cpu_seconds, peak = json.loads(found.read_text())
    found.unlink()
    if code:
        raise ProcessError(f"ended with {code}: {said}")
    return Used(cpu_seconds, peak / (1e9 if sys.platform == "darwin" else 1e6))


def rate(short: Used, long: Used, more_images: float) -> float:
    """Images a CPU-second from two runs that differ in the number of images only; NaN where noise
    hides the work.

    Parameters
    ----------
    short, long
        The two runs.
    more_images
        How many images more the long one has worked on.
    """
    seconds = long.cpu_seconds - short.cpu_seconds
    return more_images / seconds if seconds > 0 else float("nan")


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Exponent p of cost ∝ sizeᵖ, the slope of a straight line through the logarithms; NaN for
    fewer than two sizes.
    """
    if len(set(sizes)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
