"""Pixel grids: that of each optics group, completed from the images where the particle file says
nothing; one for several groups, and how to bring each onto it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.particles.image_files import ImageFiles
from kinesphere.particles.optics import OpticsGroup

# Beyond this ratio one group would lose most of its resolution, or most of its field of view, to
# another.
LARGEST_RATIO = 2.0
# Programs that know no pixel size write zero or one into the header.
_MEANINGLESS_HEADER_ANGSTROM = (0.0, 1.0)


@dataclass(frozen=True)
class ImageGrid:
    """Square pixel grid of an image; its origin is the centre of pixel ``box_px // 2``."""

    box_px: int
    pixel_size_angstrom: float

    @property
    def extent_angstrom(self) -> float:
        """Edge of the field of view."""
        return self.box_px * self.pixel_size_angstrom


def complete_pixel_grid(
    files: ImageFiles,
    image_file: NDArray[np.int32],
    groups: Sequence[OpticsGroup],
    group_of_row: NDArray[np.int64],
    pixel_size_angstrom: float | None = None,
) -> tuple[tuple[OpticsGroup, ...], list[str]]:
    """Give each group that particles belong to a pixel size and, where an image is at hand, a box.

    Parameters
    ----------
    files
        The stacks; the first of each group is opened where it is there.
    image_file
        (n,) stack of each particle.
    groups
        With NaN for an unknown pixel size and 0 for an unknown box.
    group_of_row
        (n,) position in `groups`.
    pixel_size_angstrom
        The user's, which overrides all.

    Returns
    -------
    groups
        The same, completed.
    warnings
        A sentence for each pixel size that is a guess or contradicts the images.

    Raises
    ------
    InputError
        If a group has no usable pixel size.
    """
    completed = list(groups)
    warnings = []
    used, first = np.unique(group_of_row, return_index=True)
    for position, row in zip(used.tolist(), first.tolist(), strict=True):
        group = groups[position]
        header_angstrom, header_box = _header(files, int(image_file[row]))
        pixel_size = pixel_size_angstrom or group.pixel_size_angstrom
        if np.isnan(pixel_size) and header_angstrom not in _MEANINGLESS_HEADER_ANGSTROM:
            pixel_size = header_angstrom
            warnings.append(
                f"no pixel size for {group.name}: {pixel_size:g} Å is taken from the header of "
                "the images"
            )
        if not 0 < pixel_size < np.inf:
            problem = f"has no pixel size for optics group {group.name}"
            raise InputError(
                files.source,
                problem,
                "Add rlnImagePixelSize to the optics table, or pass --pixel-size",
            )
        if (
            header_angstrom not in _MEANINGLESS_HEADER_ANGSTROM
            and abs(header_angstrom / pixel_size - 1) > 0.02
        ):
            warnings.append(
                f"{group.name} has {pixel_size:g} Å/px, the header of its images "
                f"{header_angstrom:g} Å/px"
            )
        completed[position] = replace(
            group, pixel_size_angstrom=pixel_size, box_px=group.box_px or header_box
        )
    return tuple(completed), warnings


def common_grid(
    optics: Sequence[OpticsGroup], box_px: int | None = None, source: str | Path = "particles"
) -> ImageGrid:
    """Choose the grid that all optics groups can be brought to without inventing anything.

    Its pixel is the coarsest of the groups' and its field of view the smallest (rounded down to an
    even box), unless all groups share one grid, which is kept.

    Parameters
    ----------
    optics
        The groups that occur in the particle set.
    box_px
        Smaller box to Fourier-crop to: same field of view, coarser pixels.
    source
        What an error names.

    Returns
    -------
    ImageGrid

    Raises
    ------
    InputError
        If the groups differ more than twofold in pixel size or field of view, or `box_px` is odd,
        too small or too large.
    """
    grids = [ImageGrid(group.box_px, group.pixel_size_angstrom) for group in optics]
    _require_similar(optics, grids, source)
    base = grids[0]
    if any(grid != base for grid in grids):
        pixel_size = max(grid.pixel_size_angstrom for grid in grids)
        extent = min(grid.extent_angstrom for grid in grids)
        base = ImageGrid(2 * int(extent / pixel_size / 2 + 1e-6), pixel_size)
    if box_px is None or box_px == base.box_px:
        return base
    if box_px % 2 or not 8 <= box_px < base.box_px:
        problem = f"cannot bring a box of {base.box_px} px to {box_px} px"
        raise InputError(source, problem, f"Choose an even box from 8 to {base.box_px} px")
    return ImageGrid(box_px, base.pixel_size_angstrom * base.box_px / box_px)


def resampling_matrix(source: ImageGrid, target: ImageGrid) -> Float[Tensor, "m n"]:
    """Matrix A with which ``A @ image @ A.T`` is the image on another grid around the same centre.

    The image is taken as the real trigonometric polynomial through its pixels, frequencies that the
    target cannot hold are left out, and what remains is evaluated at the target's pixels:
    Fourier-cropping for any ratio of pixel sizes. Where both grids have the same field of view it
    equals `kinesphere.fourier.crop_fourier`.

    Parameters
    ----------
    source, target
        The target's pixels are not finer and its field of view is not larger.

    Returns
    -------
    Tensor
        ``(target.box_px, source.box_px)`` float32.
    """
    n = source.box_px
    ratio = target.pixel_size_angstrom / source.pixel_size_angstrom
    cycles = np.arange(n // 2 + 1)
    weights = np.where((cycles == 0) | (2 * cycles == n), 1.0, 2.0)
    weights[cycles > n / (2 * ratio) + 1e-6] = 0.0
    at = (np.arange(target.box_px) - target.box_px // 2) * ratio
    waves_at = np.exp(2j * np.pi / n * at[:, None] * cycles) * weights  # (m, k)
    waves_from = np.exp(-2j * np.pi / n * (np.arange(n) - n // 2)[:, None] * cycles)  # (n, k)
    return torch.from_numpy(((waves_at @ waves_from.T).real / n).astype(np.float32))


def resample(
    images: Float[Tensor, "b n n"], matrix: Float[Tensor, "m n"]
) -> Float[Tensor, "b m m"]:
    """Bring images onto another grid.

    Parameters
    ----------
    images
        ``(b, n, n)``.
    matrix
        From `resampling_matrix`, ``(m, n)``.

    Returns
    -------
    Tensor
        ``(b, m, m)``.
    """
    return matrix @ images @ matrix.T


def _header(files: ImageFiles, file: int) -> tuple[float, int]:
    """Pixel size (Å, rounded to six digits) and box of a stack; zeros where it is missing."""
    if files.path(file) is None:
        return 0.0, 0
    stack = files.stack(file)
    return float(f"{stack.pixel_size_angstrom:.6g}"), stack.shape[-1]


def _require_similar(
    optics: Sequence[OpticsGroup], grids: Sequence[ImageGrid], source: str | Path
) -> None:
    for group, grid in zip(optics, grids, strict=True):
        if not (np.isfinite(grid.extent_angstrom) and grid.extent_angstrom > 0):
            problem = f"optics group {group.name} has no usable pixel size or box"
            raise InputError(source, problem, "Set rlnImagePixelSize and rlnImageSize")
    for what, values in (
        ("pixel size", [grid.pixel_size_angstrom for grid in grids]),
        ("field of view", [grid.extent_angstrom for grid in grids]),
    ):
        low = int(np.argmin(values))
        high = int(np.argmax(values))
        if values[high] > LARGEST_RATIO * values[low]:
            problem = (
                f"optics groups {optics[low].name} and {optics[high].name} differ too much in "
                f"{what}: "
                f"{values[low]:.4g} and {values[high]:.4g} Å"
            )
            raise InputError(source, problem, "Re-extract them alike, or process them apart")
