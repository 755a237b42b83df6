"""Inner loops compiled for the CPU, how they share rows out over threads, and where those for a GPU
are found.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import ModuleType
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from kinesphere.runtime import console

_LEAST_WORK_OF_A_THREAD = 4096

compiled = numba.njit(
    cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy"
)
"""Decorator: sums may be reordered, but NaN stays NaN, so that what is not finite reaches the
trainer's guard unharmed.

`typing.no_type_check` below it keeps run-time type checkers, which numba cannot compile, away from
what it decorates.
"""


def array_of(values: torch.Tensor) -> NDArray[Any]:
    """Share the memory of a contiguous tensor on the CPU with compiled code; one that is not
    contiguous is copied.
    """
    array: NDArray[Any] = values.detach().contiguous().numpy()
    return array


def over_rows(work: Callable[[slice], None], n_rows: int, work_per_row: int) -> None:
    """Share rows out over as many threads as torch uses, where there is enough to do.

    Parameters
    ----------
    work
        Does a range of rows; a compiled function, which holds no lock.
    n_rows
        Number of rows.
    work_per_row
        Points, or what takes about as long, in a row.
    """
    n_threads = min(
        torch.get_num_threads(), max(n_rows * work_per_row // _LEAST_WORK_OF_A_THREAD, 1)
    )
    if n_threads == 1:
        work(slice(0, n_rows))
        return
    edges = np.linspace(0, n_rows, n_threads + 1).astype(int).tolist()
    list(_pool(n_threads).map(work, [slice(a, b) for a, b in pairwise(edges)]))


def gpu_kernels(module: str, tensor: torch.Tensor) -> ModuleType | None:
    """Find the Triton kernels that can take a tensor; None where the reference in torch has to do.

    Parameters
    ----------
    module
        Name of the module that holds them. Its `check(device)` raises where they do not agree with
        the reference.
    tensor
        What they would work on: they are for single precision, and for what PyTorch calls CUDA.
    """
    if tensor.device.type != "cuda" or tensor.dtype != torch.float32:
        return None
    return checked_kernels(module, tensor.device)


@functools.lru_cache(maxsize=64)
def checked_kernels(module: str, device: torch.device) -> ModuleType | None:
    """Import a module of kernels and try it once on a device; None, and a line for the user, where
    that fails.
    """
    try:
        kernels = importlib.import_module(module)
        kernels.check(device)
    except Exception as error:  # noqa: BLE001 - no Triton, no C compiler, an old GPU: whatever stands in the way
        why = str(error).strip().splitlines()
        console.print(
            "The GPU goes without compiled kernels, more slowly: "
            f"{why[0] if why else type(error).__name__}",
            markup=False,
        )
        return None
    return kernels


@functools.lru_cache(maxsize=4)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="compiled")
