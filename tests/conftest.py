"""What every test relies on: shapes checked at run time, one thread, fixed seeds, and the oracles
found or named."""

from __future__ import annotations

import os

# One thread a worker: set before any library starts its own pool.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

from jaxtyping import install_import_hook

# The annotations of kinesphere, shapes included, are checked on every call; so the hook comes
# before any import of it.
install_import_hook("kinesphere", "beartype.beartype")

import importlib.util
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

# Without a GPU its kernels run in Triton's interpreter, which has to be chosen before anything
# imports Triton.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

REPOSITORY = Path(__file__).resolve().parents[1]
SEED = 20240229


def _skip_or_fail(reason: str, variable: str) -> None:
    """Skip with the reason, or fail where the environment says that the thing must be there."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason} ({variable}=1)")
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep PyTorch from competing with the other test workers."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start each test from the same random numbers, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - libraries draw from the global generator
    torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Give the folder of a particle set made by another program: `shared_data("adk")`.

    It is looked for in `$KINESPHERE_SHARED`, else in `../shared` beside the repository.
    """
    root = Path(os.environ.get("KINESPHERE_SHARED", REPOSITORY.parent / "shared"))

    def find(name: str) -> Path:
        folder = root / "data" / name
        if not folder.exists():
            _skip_or_fail(
                f"no {folder}: set KINESPHERE_SHARED to the folder of data/{name}",
                "KINESPHERE_REQUIRE_SHARED",
            )
        return folder

    return find


def _program_finder(package: str) -> Callable[[str], Path]:
    """Make a function that finds one of a Debian package's programs."""

    def find(name: str) -> Path:
        program = shutil.which(name)
        if program is None:
            _skip_or_fail(f"no {name}: apt-get install {package}", "KINESPHERE_REQUIRE_ORACLES")
        return Path(str(program))

    return find


@pytest.fixture(scope="session")
def relion() -> Callable[[str], Path]:
    """Find a RELION program: `relion("relion_project")`."""
    return _program_finder("relion")


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Find the browser that opens the report in the tests."""
    return _program_finder("chromium")("chromium")


@pytest.fixture(scope="session")
def triton_device() -> torch.device:
    """Give the device that Triton kernels are tested on: a GPU, else the CPU, in Triton's
    interpreter."""
    if importlib.util.find_spec("triton") is None:
        _skip_or_fail("no triton: pip install '.[gpu-dev]'", "KINESPHERE_REQUIRE_ORACLES")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
