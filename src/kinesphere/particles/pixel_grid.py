"""Pixel size and box of each optics group, completed from the images where the particle file says
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.particles.image_files import ImageFiles
from kinesphere.particles.optics import OpticsGroup

# Programs that know no pixel size write zero or one into the header.
_MEANINGLESS_HEADER_ANGSTROM = (0.0, 1.0)


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
    completed, warnings = list(groups), []
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


def _header(files: ImageFiles, file: int) -> tuple[float, int]:
    """Pixel size (Å, rounded to six digits) and box of a stack; zeros where it is missing."""
    if files.path(file) is None:
        return 0.0, 0
    stack = files.stack(file)
    return float(f"{stack.pixel_size_angstrom:.6g}"), stack.shape[-1]
