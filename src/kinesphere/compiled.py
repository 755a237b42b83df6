"""Inner loops compiled for the CPU, and how they share rows out over threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np
import torch

_LEAST_WORK_OF_A_THREAD = 4096

compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
"""Decorator: sums may be reordered, but NaN stays NaN, so that what is not finite reaches the trainer's guard unharmed.

`typing.no_type_check` below it keeps run-time type checkers, which numba cannot compile, away from what it decorates.
"""


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
    n_threads = min(torch.get_num_threads(), max(n_rows * work_per_row // _LEAST_WORK_OF_A_THREAD, 1))
    if n_threads == 1:
        work(slice(0, n_rows))
        return
    edges = np.linspace(0, n_rows, n_threads + 1).astype(int).tolist()
    list(_pool(n_threads).map(work, [slice(a, b) for a, b in pairwise(edges)]))


@functools.lru_cache(maxsize=4)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="compiled")
