"""Coefficients in a file: written image by image, mapped into memory, pages coming ahead of use and
going after it.

The format is that of safetensors: `values` (n, 2 m) float16 and `scale` (n,) float32, with text
about their origin.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import struct
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Complex, Int
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.observations.coefficients import BYTES_HALF, HalfCoefficients, to_half
from kinesphere.runtime import atomic_write

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 4096
_LONGEST_HEADER = 1 << 20
_SCALE_BYTES = 4
_HALF_BYTES = 2
_GAP_BYTES = 1 << 16  # reading on through a gap this small is quicker than beginning anew


class FilePages:
    """A file mapped into memory for reading.

    Parameters
    ----------
    file
        The file; it may be closed afterwards.
    start
        Byte at which the first image begins.
    row_bytes
        Bytes of an image.
    """

    def __init__(self, file: BinaryIO, start: int, row_bytes: int) -> None:
        self._start = start
        self._row_bytes = row_bytes
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read_ahead(self, rows: Int[Tensor, " k"]) -> None:
        """Ask the system to have the images of some rows, ascending, in its cache soon."""
        if (
            not hasattr(os, "posix_fadvise") or len(rows) == 0
        ):  # macOS reads ahead by its own lights
            return
        last = np.flatnonzero(
            np.diff(rows.numpy()) * self._row_bytes > self._row_bytes + _GAP_BYTES
        )
        begins = rows.numpy()[np.r_[0, last + 1]]
        ends = rows.numpy()[np.r_[last, len(rows) - 1]] + 1
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            offset = self._start + begin * self._row_bytes
            length = (end - begin) * self._row_bytes
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def let_go(self) -> None:
        """Unmap all pages, which are then no longer this process's memory; they may stay in the
        system's cache.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)


class CoefficientWriter:
    """Receives the coefficients of images in order and writes them to a file.

    Parameters
    ----------
    file
        Open for writing, empty.
    n_images, n_coefficients
        What will come.
    origin
        Text to keep with them.
    """

    def __init__(
        self, file: BinaryIO, n_images: int, n_coefficients: int, origin: Mapping[str, str]
    ) -> None:
        self._file = file
        self._shape = (n_images, 2 * n_coefficients)
        self._scale = np.empty(n_images, np.float32)
        self._n_written = 0
        self._start = _write_header(file, self._shape, origin)

    def write(self, coefficients: Complex[Tensor, "b m"]) -> None:
        """Append the coefficients of some images."""
        values, scale = to_half(coefficients)
        self._file.write(values.numpy().data)
        self._scale[self._n_written : self._n_written + len(scale)] = scale.numpy()
        self._n_written += len(scale)

    def close(self) -> None:
        """Write what comes after the last image."""
        if self._n_written != self._shape[0]:
            raise RuntimeError(f"{self._n_written} of {self._shape[0]} images written")
        self._file.write(self._scale.data)
        self._file.flush()

    def finish(self) -> HalfCoefficients:
        """Close, and map the file."""
        self.close()
        return map_coefficients(self._file, self._start, self._shape)


@contextmanager
def coefficient_writer(
    path: Path, n_images: int, n_coefficients: int, origin: Mapping[str, str]
) -> Iterator[CoefficientWriter]:
    """Open a file of coefficients for writing; it appears under its name when all images have come.

    Raises
    ------
    InputError
        If the folder cannot be written to, or its disk has no room.
    """
    with atomic_write(path) as temporary:
        require_room(path.parent, n_images, n_coefficients)
        with temporary.open("wb") as file:
            writer = CoefficientWriter(file, n_images, n_coefficients, origin)
            yield writer
            writer.close()


@contextmanager
def scratch_writer(folder: Path, n_images: int, n_coefficients: int) -> Iterator[CoefficientWriter]:
    """Open a file without a name; what `finish` maps outlives the context, and whatever happens its
    space comes free.

    Raises
    ------
    InputError
        If the folder's disk has no room.
    """
    require_room(folder, n_images, n_coefficients)
    with tempfile.TemporaryFile(dir=folder, prefix=".coefficients-") as file:
        yield CoefficientWriter(file, n_images, n_coefficients, {})


def require_room(folder: Path, n_images: int, n_coefficients: int) -> None:
    """Refuse a disk that cannot hold the coefficients, before hours are spent on them.

    Raises
    ------
    InputError
        Saying how much is needed and how much there is.
    """
    needed = n_images * (n_coefficients * BYTES_HALF + _SCALE_BYTES)
    free = shutil.disk_usage(folder).free
    if needed > free:
        problem = (
            f"has {free / 1e9:.3g} GB free, and the prepared images take {needed / 1e9:.3g} GB"
        )
        raise InputError(
            folder, problem, "Make room, use another disk, or a coarser --resolution-angstrom"
        )


def open_coefficients(path: Path) -> tuple[HalfCoefficients, dict[str, str]]:
    """Map a file of coefficients into memory.

    Parameters
    ----------
    path
        A complete file that `coefficient_writer` wrote.

    Returns
    -------
    tuple
        The coefficients, and the text about their origin.

    Raises
    ------
    InputError
        If there is no such file, it is something else, or part of it is missing.
    """
    try:
        with path.open("rb") as file:
            shape, origin, start = _read_header(file, path)
            expected = start + shape[0] * (shape[1] * _HALF_BYTES + _SCALE_BYTES)
            found = path.stat().st_size
            if found != expected:
                problem = f"is cut short or damaged: {found} bytes, not {expected}"
                raise InputError(
                    path, problem, "Make it again with kinesphere preprocess --cache --overwrite"
                )
            return map_coefficients(file, start, shape), origin
    except OSError as error:
        problem = (
            "there is no such file"
            if error.errno == errno.ENOENT
            else f"cannot be read ({error.strerror})"
        )
        raise InputError(path, problem, "Make it with kinesphere preprocess --cache") from error


def map_coefficients(file: BinaryIO, start: int, shape: tuple[int, int]) -> HalfCoefficients:
    """Map values, (n, 2 m) from a byte on, and the scales that follow them."""
    row_bytes = shape[1] * _HALF_BYTES
    pages = FilePages(file, start, row_bytes)
    values = np.frombuffer(pages.memory, np.float16, shape[0] * shape[1], start).reshape(shape)
    scale = np.frombuffer(pages.memory, np.float32, shape[0], start + shape[0] * row_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch has no read-only tensors; nothing writes to these
        return HalfCoefficients(torch.from_numpy(values), torch.from_numpy(scale.copy()), pages)


def _write_header(file: BinaryIO, shape: tuple[int, int], origin: Mapping[str, str]) -> int:
    """Write the head of a safetensors file so that the values begin on a page; return where they
    do.
    """
    end = shape[0] * shape[1] * _HALF_BYTES
    tensors = {
        "__metadata__": dict(origin),
        "values": {"dtype": "F16", "shape": list(shape), "data_offsets": [0, end]},
        "scale": {
            "dtype": "F32",
            "shape": [shape[0]],
            "data_offsets": [end, end + shape[0] * _SCALE_BYTES],
        },
    }
    text = json.dumps(tensors).encode()
    start = -(-(_LENGTH.size + len(text)) // _ALIGNMENT) * _ALIGNMENT
    file.write(_LENGTH.pack(start - _LENGTH.size) + text.ljust(start - _LENGTH.size))
    return start


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[int, int], dict[str, str], int]:
    try:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        tensors = json.loads(file.read(min(length, _LONGEST_HEADER)))
        n_images, n_parts = tensors["values"]["shape"]
        origin = {str(key): str(value) for key, value in tensors["__metadata__"].items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = "is not a file of prepared images"
        raise InputError(path, problem, "Make one with kinesphere preprocess --cache") from error
    return (int(n_images), int(n_parts)), origin, _LENGTH.size + length
