"""Coefficients that the processes of one machine prepare together and keep once: in a file that all
map.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from kinesphere.observations.coefficient_file import map_coefficients, require_room
from kinesphere.observations.coefficients import BYTES_EXACT, BYTES_HALF, HalfCoefficients, to_half
from kinesphere.ranks import Ranks

_BYTES_OF_SCALE = 4
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file there is memory that several processes see


class SharedKeeper:
    """Receives the coefficients of a part of the images in order; `finish` returns those of all.

    Parameters
    ----------
    file
        Open for reading and writing, of the right size.
    shape
        Numbers of images and of coefficients.
    is_exact
        Whether they are kept as complex64; else as float16.
    first
        The image that this process begins with.
    ranks
        The processes of this machine.
    """

    def __init__(
        self, file: BinaryIO, shape: tuple[int, int], first: int, ranks: Ranks, *, is_exact: bool
    ) -> None:
        self._file = file
        self._shape = shape
        self._is_exact = is_exact
        self._n_written = first
        self._ranks = ranks
        memory, (n_images, n_coefficients) = mmap.mmap(file.fileno(), 0), shape
        kind, n_columns = (
            (np.complex64, n_coefficients) if is_exact else (np.float16, 2 * n_coefficients)
        )
        values = np.frombuffer(memory, kind, n_images * n_columns).reshape(n_images, n_columns)
        self._values = torch.from_numpy(values)
        self._scale = (
            None
            if is_exact
            else torch.from_numpy(np.frombuffer(memory, np.float32, n_images, values.nbytes))
        )

    def write(self, coefficients: Complex[Tensor, "b m"]) -> None:
        """Append the coefficients of some images of this process's part."""
        rows = slice(self._n_written, self._n_written + len(coefficients))
        if self._scale is None:
            self._values[rows] = coefficients
        else:
            self._values[rows], self._scale[rows] = to_half(coefficients)
        self._n_written = rows.stop

    def finish(self) -> Complex[Tensor, "n m"] | HalfCoefficients:
        """Wait for the others, and return all images."""
        self._ranks.barrier()
        if self._is_exact:
            return self._values
        n_images, n_coefficients = self._shape
        return map_coefficients(self._file, 0, (n_images, 2 * n_coefficients))


class SharedMemoryKeeper(SharedKeeper):
    """The same in memory, where nothing has to be read ahead."""

    def finish(self) -> Complex[Tensor, "n m"] | HalfCoefficients:
        """Wait for the others, and return all images."""
        found = super().finish()
        return replace(found, pages=None) if isinstance(found, HalfCoefficients) else found


@contextmanager
def shared_keeper(
    scratch: Path,
    shape: tuple[int, int],
    first: int,
    ranks: Ranks,
    *,
    is_exact: bool,
    on_disk: bool,
) -> Iterator[SharedKeeper]:
    """Open a file for all processes of this machine; once all have opened it, it has no name.

    Parameters
    ----------
    scratch
        Folder for it, where the coefficients are not to be in memory, or the system has no shared
        memory for them.
    shape, first, ranks, is_exact
        As for `SharedKeeper`.
    on_disk
        Whether they are to be on disk.

    Raises
    ------
    InputError
        If the disk has no room.
    """
    n_images, n_coefficients = shape
    row_bytes = (
        n_coefficients * BYTES_EXACT if is_exact else n_coefficients * BYTES_HALF + _BYTES_OF_SCALE
    )

    def make() -> str:
        in_memory = not on_disk and _has_room(_SHARED_MEMORY, n_images * row_bytes)
        if not in_memory:
            require_room(scratch, n_images, n_coefficients)
        descriptor, name = tempfile.mkstemp(
            dir=_SHARED_MEMORY if in_memory else scratch, prefix=".coefficients-"
        )
        os.ftruncate(descriptor, n_images * row_bytes)
        os.close(descriptor)
        return name

    path = Path(ranks.from_first(make))
    try:
        file = path.open("r+b")
        ranks.barrier()
    finally:
        if ranks.is_first:
            path.unlink()
    with file:
        kind = SharedKeeper if on_disk else SharedMemoryKeeper
        yield kind(file, shape, first, ranks, is_exact=is_exact)


def _has_room(folder: Path, n_bytes: int) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free > 2 * n_bytes
