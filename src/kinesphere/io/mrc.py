"""MRC maps and image stacks: read with their frame, written where they were."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import mrcfile
import numpy as np
from mrcfile.utils import data_dtype_from_header, mode_from_dtype
from numpy.typing import ArrayLike, NDArray

from kinesphere.errors import InputError
from kinesphere.runtime import atomic_write

HEADER_BYTES = 1024
_REAL_MODES = (0, 1, 2, 6, 12)
_COMPRESSED_SUFFIXES = (".gz", ".bz2")


@dataclass(frozen=True, eq=False)
class DensityMap:
    """A cubic map and the place it takes in space.

    Attributes
    ----------
    data
        Density, (n, n, n) float32 indexed `[z, y, x]`.
    pixel_size_angstrom
        Edge of a voxel.
    origin_angstrom
        (3,) float64, xyz of the centre of voxel `[0, 0, 0]` in the frame in which ChimeraX shows
        the map.
    start_px
        (3,) int, xyz: the header's `nstart`, kept so that what is written carries what was read.
    """

    data: NDArray[np.float32]
    pixel_size_angstrom: float
    origin_angstrom: NDArray[np.float64]
    start_px: tuple[int, int, int] = (0, 0, 0)

    @property
    def box_px(self) -> int:
        """Voxels along an edge."""
        return int(self.data.shape[0])

    @property
    def centre_angstrom(self) -> NDArray[np.float64]:
        """(3,) xyz of voxel n//2, the point that is zero inside kinesphere."""
        return self.origin_angstrom + self.pixel_size_angstrom * (self.box_px // 2)


def read_map(path: str | Path) -> DensityMap:
    """Read a cubic density map.

    Parameters
    ----------
    path
        MRC or CCP4 file, gzipped or not, of any real mode (int8, int16, uint16, float16, float32)
        and any axis order.

    Returns
    -------
    DensityMap
        The origin is the header's `origin` where it is not zero, else `nstart` times the voxel (as
        in ChimeraX).

    Raises
    ------
    InputError
        If the file is missing, cut short, not a cubic map, without a pixel size, or holds values
        that are not finite.
    """
    path = Path(path)
    header, data = _read_all(path)
    order = _axis_order(path, header)
    data = np.ascontiguousarray(
        data.transpose([2 - order.index(axis) for axis in (2, 1, 0)]), dtype=np.float32
    )
    if len(set(data.shape)) != 1 or data.shape[0] < 2:
        shape = " x ".join(str(edge) for edge in data.shape[::-1])
        raise InputError(path, f"is {shape} voxels, not a cubic map", "Give a map with equal edges")
    _require_finite(path, data)
    pixel_size = _cubic_voxel(path, header)
    file_start = (int(header.nxstart), int(header.nystart), int(header.nzstart))
    start = (file_start[order.index(0)], file_start[order.index(1)], file_start[order.index(2)])
    origin = np.array([header.origin.x, header.origin.y, header.origin.z], dtype=np.float64)
    if not origin.any():
        origin = np.array(start, dtype=np.float64) * pixel_size
    return DensityMap(data, pixel_size, origin, start)


def write_map(path: str | Path, data: ArrayLike, like: DensityMap | float) -> None:
    """Write a map as float32, atomically.

    Parameters
    ----------
    path
        File to write.
    data
        (n, n, n) density indexed `[z, y, x]`.
    like
        Map whose frame the new one shares (it will overlay it, also with another box over the same
        field of view), or the pixel size in Å of a map whose origin is zero.
    """
    volume = np.asarray(data, dtype=np.float32)
    with atomic_write(Path(path)) as temporary, mrcfile.new(str(temporary), overwrite=True) as mrc:
        mrc.set_data(volume)
        mrc.set_volume()
        if not isinstance(like, DensityMap):
            mrc.voxel_size = like
            return
        scale = like.box_px / volume.shape[0]
        mrc.voxel_size = like.pixel_size_angstrom * scale
        start_places_map = np.allclose(
            np.array(like.start_px) * like.pixel_size_angstrom, like.origin_angstrom
        )
        if scale == 1:
            mrc.nstart = like.start_px
        # A frame given by nstart alone stays so: some programs add nstart and origin.
        if scale != 1 or not start_places_map:
            mrc.header.origin = tuple(_corner_of_same_centre(like, volume.shape[0], scale))


class ImageStack:
    """Images of one MRC file, read only when indexed.

    The file is mapped anew at each call, so a stack may be pickled, forked and kept by the
    thousand.

    Parameters
    ----------
    path
        `.mrcs` or `.mrc` file of any real mode, not compressed.

    Raises
    ------
    InputError
        If the file is missing, not MRC, complex, compressed or shorter than its header says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix in _COMPRESSED_SUFFIXES:
            raise InputError(
                path, "is compressed, which allows no random access", "Decompress the stack"
            )
        header = _read_header(self.path)
        self.dtype = np.dtype(data_dtype_from_header(header))
        self.shape = (int(header.nz), int(header.ny), int(header.nx))
        self.pixel_size_angstrom = _voxel_edge(header, "x")
        self._offset = HEADER_BYTES + int(header.nsymbt)
        self._require_complete()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: int | slice | ArrayLike) -> NDArray[np.float32]:
        """Read images: (h, w) for an integer, else (b, h, w); InputError for an index that the file
        does not have.
        """
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            self._require_present(indices)
        images = np.memmap(
            self.path, dtype=self.dtype, mode="r", offset=self._offset, shape=self.shape
        )
        return np.array(images[indices], dtype=np.float32)

    def _require_complete(self) -> None:
        image_bytes = self.dtype.itemsize * self.shape[1] * self.shape[2]
        present = (self.path.stat().st_size - self._offset) // image_bytes
        if present < self.shape[0]:
            problem = f"is cut short: {present} of the {self.shape[0]} images in its header"
            raise InputError(self.path, problem, "Copy or write the stack again")

    def _require_present(self, indices: NDArray[Any]) -> None:
        outside = (
            (indices < -len(self)) | (indices >= len(self))
            if indices.dtype != bool
            else np.zeros(1, bool)
        )
        if outside.any():
            asked = int(np.atleast_1d(indices)[np.atleast_1d(outside)][0]) + 1
            problem = f"holds {len(self)} images, image {asked} is asked for"
            raise InputError(
                self.path, problem, "The star file and the stack do not belong together"
            )


class StackWriter:
    """Receives the images of a stack in order; made by `stack_writer`."""

    def __init__(self, file: BinaryIO, image_shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._file = file
        self._image_shape = image_shape
        self._dtype = dtype
        self.n_written = 0

    def write(self, images: ArrayLike) -> None:
        """Append images, (b, height, width) or (height, width)."""
        batch = np.asarray(images).reshape(-1, *self._image_shape)
        self._file.write(np.ascontiguousarray(batch, dtype=self._dtype).tobytes())
        self.n_written += len(batch)


@contextmanager
def stack_writer(
    path: str | Path,
    shape: tuple[int, int, int],
    pixel_size_angstrom: float,
    dtype: type[np.generic] = np.float32,
) -> Iterator[StackWriter]:
    """Open a stack for writing batch by batch; it appears under its name when all images have come.

    Parameters
    ----------
    path
        File to write.
    shape
        (n, height, width) of the whole stack.
    pixel_size_angstrom
        Goes to the header in x and y; z is zero.
    dtype
        float32, float16 (mode 12), uint16, int16 or int8.

    Yields
    ------
    StackWriter
        Call its `write` until `n` images are there.

    Raises
    ------
    RuntimeError
        If another number of images was written.
    """
    with atomic_write(Path(path)) as temporary:
        # Plain writes after the header: on a full disk they fail with an error, where a memory map
        # would crash.
        _write_stack_header(temporary, shape, pixel_size_angstrom, np.dtype(dtype))
        with temporary.open("r+b") as file:
            file.seek(HEADER_BYTES)
            writer = StackWriter(file, shape[1:], np.dtype(dtype))
            yield writer
        if writer.n_written != shape[0]:
            raise RuntimeError(f"{path}: {writer.n_written} of {shape[0]} images written")


def write_stack(
    path: str | Path,
    images: ArrayLike,
    pixel_size_angstrom: float,
    dtype: type[np.generic] = np.float32,
) -> None:
    """Write a stack of images that fits in memory, (n, height, width), atomically."""
    stack = np.asarray(images)
    with stack_writer(
        path, (stack.shape[0], stack.shape[1], stack.shape[2]), pixel_size_angstrom, dtype
    ) as writer:
        writer.write(stack)


def _write_stack_header(
    path: Path, shape: tuple[int, int, int], pixel_size_angstrom: float, dtype: np.dtype[Any]
) -> None:
    with mrcfile.new_mmap(str(path), shape, mrc_mode=mode_from_dtype(dtype)) as mrc:
        mrc.set_image_stack()
        mrc.voxel_size = (pixel_size_angstrom, pixel_size_angstrom, 0.0)
        # "Not computed", as MRC2014 has it (max below min, mean below both, rms negative).
        mrc.header.dmin = 0
        mrc.header.dmax = -1
        mrc.header.dmean = -2
        mrc.header.rms = -1


def _corner_of_same_centre(like: DensityMap, box: int, scale: float) -> NDArray[np.float64]:
    """Origin with which voxel box//2 of the new map sits on voxel n//2 of `like`."""
    corner: NDArray[np.float64] = like.centre_angstrom - like.pixel_size_angstrom * scale * (
        box // 2
    )
    return corner


def _read_header(path: Path) -> np.recarray[Any, Any]:
    header, _ = _open(path, header_only=True)
    return header


def _read_all(path: Path) -> tuple[np.recarray[Any, Any], NDArray[Any]]:
    header, data = _open(path, header_only=False)
    if data is None or data.ndim != 3:
        raise InputError(
            path, "is not a three-dimensional map, or is cut short", "Give a complete MRC map"
        )
    return header, data


def _open(path: Path, *, header_only: bool) -> tuple[np.recarray[Any, Any], NDArray[Any] | None]:
    """Header and data of a file; permissive, since many programs write wrong stamps over right
    data.
    """
    if not path.is_file():
        raise InputError(path, "there is no such file", "Check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mrcfile.open(str(path), permissive=True, header_only=header_only) as mrc:
                header = mrc.header.copy()
                data = mrc.data
    except (ValueError, OSError, EOFError, RuntimeError) as error:
        raise InputError(
            path, f"cannot be read as MRC ({error})", "Give an MRC file (.mrc, .mrcs, .map)"
        ) from error
    _require_plausible(path, header)
    return header, data


def _require_plausible(path: Path, header: np.recarray[Any, Any]) -> None:
    mode = int(header.mode)
    if mode in {3, 4}:
        raise InputError(path, f"holds complex values (mode {mode})", "Give real-space data")
    if (
        mode not in _REAL_MODES
        or min(int(header.nx), int(header.ny), int(header.nz)) < 1
        or int(header.nsymbt) < 0
    ):
        sizes = f"{header.nx} x {header.ny} x {header.nz}, mode {mode}"
        raise InputError(
            path, f"is not a usable MRC file ({sizes})", "Give an MRC file (.mrc, .mrcs, .map)"
        )


def _axis_order(path: Path, header: np.recarray[Any, Any]) -> tuple[int, int, int]:
    """Return the axis (0 x, 1 y, 2 z) of the file's columns, of its rows and of its sections; unset
    means xyz.
    """
    order = (int(header.mapc) - 1, int(header.mapr) - 1, int(header.maps) - 1)
    if order == (-1, -1, -1):
        return (0, 1, 2)
    if sorted(order) != [0, 1, 2]:
        raise InputError(
            path,
            f"has axis order {order[0] + 1}, {order[1] + 1}, {order[2] + 1}",
            "Write the map again",
        )
    return order


def _voxel_edge(header: np.recarray[Any, Any], axis: str) -> float:
    """Cell edge / sampling along x, y or z in Å, zero where either is unset."""
    intervals = int(header[f"m{axis}"])
    return float(header.cella[axis]) / intervals if intervals > 0 else 0.0


def _cubic_voxel(path: Path, header: np.recarray[Any, Any]) -> float:
    edges = np.array([_voxel_edge(header, axis) for axis in "xyz"])
    if not (np.isfinite(edges).all() and edges.min() > 0):
        remedy = "Write it, for example with relion_image_handler --force_header_angpix"
        raise InputError(path, "has no pixel size in its header", remedy)
    if np.ptp(edges) > 1e-3 * edges[0]:
        sizes = " x ".join(f"{edge:.4g}" for edge in edges)
        raise InputError(path, f"has voxels of {sizes} Å", "Resample the map to cubic voxels")
    # The header stores the cell as float32; eight digits of the quotient would be noise.
    return float(f"{edges[0]:.7g}")


def _require_finite(path: Path, data: NDArray[np.float32]) -> None:
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise InputError(
            path, f"has {bad} voxels that are not finite numbers", "Write the map again without NaN"
        )
