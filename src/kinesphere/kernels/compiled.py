"""Inner loops compiled for the processor: how, where the machine code is kept, and how threads
share rows out.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from numba.core import config as numba_config
from numpy.typing import NDArray

_SOURCES = Path(__file__).parent
_LEAST_WORK_OF_A_THREAD = 4096


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop on first use, and keep the machine code for the next run.

    Sums may be reordered, but NaN stays NaN, so that what is not finite reaches the trainer's guard
    unharmed. Loops hold no lock: threads share rows out (`over_rows`). `typing.no_type_check` below
    this decorator keeps run-time type checkers, which numba cannot compile, away from the loop.
    """
    folder = cache_folder()
    with _numba_caches_in(folder):
        return numba.njit(
            cache=folder is not None,
            nogil=True,
            fastmath={"contract", "reassoc", "nsz"},
            error_model="numpy",
        )(function)


@functools.cache
def cache_folder() -> Path | None:
    """Find the folder of the machine code of exactly these sources; None where none can be written.

    Numba compiles a loop anew when the loop's own file has changed. But loops take pieces from each
    other's files, so the folder's name stands for all of them, and what an older version compiled
    is never run.
    """
    name = f"loops-{_digest_of_sources()}"
    return next(
        (parent / name for parent in _places_to_keep_code() if _is_writable(parent / name)), None
    )


def _places_to_keep_code() -> Iterator[Path]:
    """Give where the user said, beside the sources, and in the user's cache, the best first.

    The shared temporary folder is not among them: anyone could put machine code there.
    """
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
    yield _SOURCES / "__pycache__"
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        yield Path(chosen) / "kinesphere"
    with contextlib.suppress(RuntimeError):  # a user without a home
        caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
        yield Path.home() / caches / "kinesphere"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _digest_of_sources() -> str:
    """Digest of what the loops are made of, and of where it is, as numba keeps code by path.

    Triton has a cache of its own.
    """
    digest = hashlib.sha256(str(_SOURCES).encode())
    for source in sorted(_SOURCES.glob("*.py")):
        if not source.stem.endswith("_triton"):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _numba_caches_in(folder: Path | None) -> Iterator[None]:
    """Have numba keep what is decorated inside this block in a folder; other packages use its own
    rule.
    """
    usual = vars(numba_config)["CACHE_DIR"]
    vars(numba_config)["CACHE_DIR"] = "" if folder is None else str(folder)
    try:
        yield
    finally:
        vars(numba_config)["CACHE_DIR"] = usual


def needs_compiling() -> bool:
    """Tell whether no run has compiled all loops for this processor yet, or none could keep
    them.
    """
    marker = _marker()
    return marker is None or not marker.exists()


def mark_as_compiled() -> None:
    """Note that all loops are kept."""
    marker = _marker()
    if marker is not None:
        marker.touch()


def _marker() -> Path | None:
    """File that says all loops are kept: for this numba and processor, as homes may be shared."""
    folder = cache_folder()
    processor = llvmlite.binding.get_host_cpu_name()
    return None if folder is None else folder / f"complete-{numba.__version__}-{processor}"


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


@functools.lru_cache(maxsize=4)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="compiled")
