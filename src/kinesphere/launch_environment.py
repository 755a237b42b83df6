"""Which of several processes this is, by what torchrun or Slurm put into the environment."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from kinesphere.errors import InputError

# Above those of services, below those that outgoing connections take.
_PORTS = range(15_000, 30_000)


@dataclass(frozen=True)
class LaunchEnvironment:
    """Which of how many processes this is, and where they meet.

    Parameters
    ----------
    rank, size
        Number of this process, from 0, and of all.
    local
        Number of this process on its machine.
    address, port
        Where the first rank listens.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    address: str = ""
    port: int = 0

    @property
    def label(self) -> str:
        """What error messages start with: nothing where the process is alone."""
        return (
            "" if self.size == 1 else f"rank {self.rank} of {self.size} on {socket.gethostname()}: "
        )


def find_launch_environment(environment: Mapping[str, str] | None = None) -> LaunchEnvironment:
    """Read from the environment which process this is: of `torchrun`, of a Slurm job step (`srun`),
    or alone.

    A batch script that starts the program without `srun` is alone, however many tasks its job has.

    Parameters
    ----------
    environment
        Variables; none: those of this process.

    Raises
    ------
    InputError
        If a variable is not what torchrun or Slurm make it.
    """
    variables = os.environ if environment is None else environment
    if "RANK" in variables and "WORLD_SIZE" in variables:
        names = ("RANK", "WORLD_SIZE")
        local = "LOCAL_RANK"
        host = "127.0.0.1"
        port = _PORTS[0]
    elif "SLURM_PROCID" in variables and "SLURM_STEP_NUM_TASKS" in variables:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
        local = "SLURM_LOCALID"
        host = first_host(
            variables.get("SLURM_STEP_NODELIST", variables.get("SLURM_JOB_NODELIST", "127.0.0.1"))
        )
        job, step = (_number(variables, name, 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        port = _PORTS[(31 * job + step) % len(_PORTS)]
    else:
        return LaunchEnvironment()
    rank, size = (_number(variables, name) for name in names)
    if not 0 <= rank < size:
        raise InputError(
            names[0], f"{rank} is none of {size} ranks", "Start the program with torchrun or srun"
        )
    address = variables.get("MASTER_ADDR", host)
    return LaunchEnvironment(
        rank, size, _number(variables, local, 0), address, _number(variables, "MASTER_PORT", port)
    )


def first_host(node_list: str) -> str:
    """Return the first host of a Slurm node list: gpu003 of `gpu[003-010,12],big1`."""
    entry = re.match(r"(?:[^,\[\]]+|\[[^\]]*\])+", node_list)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", entry[0]) if entry else node_list


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise InputError(
            name, f"{text!r} is not a whole number", "Start the program with torchrun or srun"
        )
    return int(text)
