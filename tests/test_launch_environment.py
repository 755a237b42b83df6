"""Which process of how many this is, from what torchrun and Slurm put into the environment."""

from __future__ import annotations

import pytest

from kinesphere.errors import InputError
from kinesphere.launch_environment import LaunchEnvironment, find_launch_environment, first_host

SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "70123",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[003-004]",
}


def test_a_process_by_itself_is_alone() -> None:
    assert find_launch_environment({}) == LaunchEnvironment(rank=0, size=1)
    assert not find_launch_environment({}).label


def test_torchrun() -> None:
    variables = {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "10.0.0.7",
        "MASTER_PORT": "29501",
    }
    assert find_launch_environment(variables) == LaunchEnvironment(3, 4, 1, "10.0.0.7", 29501)
    assert (
        find_launch_environment({**SLURM, **variables}).size == 4
    )  # torchrun under srun: the inner one counts


def test_slurm_step_meets_on_its_first_host() -> None:
    place = find_launch_environment(SLURM)
    assert (place.rank, place.size, place.local, place.address) == (5, 8, 1, "gpu003")
    assert 1024 < place.port < 32768


def test_all_tasks_of_a_step_find_one_port_and_other_steps_another() -> None:
    ports = {
        find_launch_environment({**SLURM, "SLURM_PROCID": str(rank)}).port for rank in range(8)
    }
    assert len(ports) == 1
    others = {
        find_launch_environment({**SLURM, "SLURM_JOB_ID": job, "SLURM_STEP_ID": step}).port
        for job, step in ("70", "81", "90")
    }
    assert len(ports | others) == 4


def test_a_batch_script_that_starts_the_program_without_srun_is_alone() -> None:
    assert (
        find_launch_environment(
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7"}
        ).size
        == 1
    )


def test_the_user_may_say_where_to_meet() -> None:
    place = find_launch_environment({**SLURM, "MASTER_ADDR": "ib-3", "MASTER_PORT": "4000"})
    assert (place.address, place.port) == ("ib-3", 4000)


@pytest.mark.parametrize(
    ("node_list", "host"),
    [
        ("gpu[003-010,12],big1", "gpu003"),
        ("gpu[7,9-10]", "gpu7"),
        ("login", "login"),
        ("a1,a2", "a1"),
        ("rack[1-2]node[04-05]-ib", "rack1node04-ib"),
    ],
)
def test_first_host_of_a_node_list(node_list: str, host: str) -> None:
    assert first_host(node_list) == host


@pytest.mark.parametrize(
    "variables", [{"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}]
)
def test_nonsense_is_an_input_error_in_one_line(variables: dict[str, str]) -> None:
    with pytest.raises(InputError, match="RANK") as raised:
        find_launch_environment(variables)
    assert "\n" not in str(raised.value)
