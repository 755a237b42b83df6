"""What a particle file says: of each particle, of the optics, and where the images are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kinesphere.particles.image_files import ImageFiles
from kinesphere.particles.optics import OpticsGroup


@dataclass(frozen=True)
class StoredImages:
    """A stack that takes the place of a particle set's images, one image a particle in the set's
    order.

    Attributes
    ----------
    stack
        Its name as the STAR file is to give it.
    pixel_size_angstrom, box_px
        Its pixel grid, common to all images.
    """

    stack: str
    pixel_size_angstrom: float
    box_px: int


@runtime_checkable
class ParticleTable(Protocol):
    """The file behind a particle set, with all its columns."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def format_name(self) -> str:
        """The file's format, in words."""
        ...

    def write_star(
        self,
        path: Path,
        particles: ParticleMetadata,
        columns: Mapping[str, NDArray[Any]],
        images: StoredImages | None,
    ) -> None:
        """Write the rows of `particles` with every column, `columns` in addition, and names of
        other `images`.
        """
        ...

    def write_cs(self, path: Path, particles: ParticleMetadata) -> None:
        """Write the rows of `particles` as a cryoSPARC file."""
        ...

    def column(self, name: str) -> NDArray[Any]:
        """Read one column of all rows: numbers where they all are, else text."""
        ...


@dataclass(frozen=True, eq=False)
class ParticleMetadata:
    """Particles of one file as their reader found them; `ParticleSet` is what they are used as.

    Attributes
    ----------
    table
        The file they came from, with all its columns.
    files
        The stacks of images.
    optics
        Optics groups; one that no particle belongs to may be among them.
    has_poses, has_ctf
        Whether orientations, and defocus with the constants that belong to it, are known. Where
        not, the arrays hold the identity and zeros.
    rotation
        (n, 3, 3) R with x_image = Rᵀ · x_volume.
    shift_angstrom
        (n, 2) xy, where the molecule's centre is in the image.
    defocus_u_angstrom, defocus_v_angstrom, defocus_angle_degrees
        (n,) defocus, positive for underfocus, and the angle of U from the x axis.
    phase_shift_degrees, ctf_b_factor, ctf_scale
        (n,) phase plate, B-factor in Å² and scale of the CTF.
    optics_group
        (n,) position in `optics`.
    half
        (n,) 1, 2, or 0 where the file says nothing.
    image_file, image_slot
        (n,) position in `files.names`, and position of the image in that stack from 0.
    row
        (n,) row in the file.
    warnings
        What was found odd on reading, a sentence each.
    recorded_sign
        What a cryoSPARC file says of the images: -1 dark molecule, +1 bright; 0 where the file says
        nothing.
    new_columns
        (n,) columns that are not in the file and that `write_star` adds, by name.
    """

    table: ParticleTable
    files: ImageFiles
    optics: tuple[OpticsGroup, ...]
    has_poses: bool
    has_ctf: bool
    rotation: NDArray[np.float64]
    shift_angstrom: NDArray[np.float64]
    defocus_u_angstrom: NDArray[np.float64]
    defocus_v_angstrom: NDArray[np.float64]
    defocus_angle_degrees: NDArray[np.float64]
    phase_shift_degrees: NDArray[np.float64]
    ctf_b_factor: NDArray[np.float64]
    ctf_scale: NDArray[np.float64]
    optics_group: NDArray[np.int64]
    half: NDArray[np.int64]
    image_file: NDArray[np.int32]
    image_slot: NDArray[np.int64]
    row: NDArray[np.int64]
    warnings: tuple[str, ...] = ()
    recorded_sign: int = 0
    new_columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)
