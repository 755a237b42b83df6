"""A set of particle images: poses, CTF, optics and half of each, the images themselves, and the
file it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinesphere.errors import InputError
from kinesphere.particles.cryosparc import read_cryosparc_particles
from kinesphere.particles.metadata import ParticleMetadata, StoredImages
from kinesphere.particles.optics import OpticsGroup
from kinesphere.particles.relion import read_relion_particles

Indices = slice | int | np.integer | ArrayLike


@dataclass(frozen=True, eq=False)
class ParticleSet(ParticleMetadata):
    """Particles of one file, or some of them; slices like an array.

    The attributes are those of `ParticleMetadata`.
    """

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        passthrough: str | Path | None = None,
        pixel_size_angstrom: float | None = None,
    ) -> ParticleSet:
        """Read a particle file; the images may be missing until they are asked for.

        Parameters
        ----------
        path
            RELION STAR file (3.0 to 5), or cryoSPARC `.cs` file.
        passthrough
            cryoSPARC passthrough file with the columns that `path` lacks.
        pixel_size_angstrom
            Overrides what the file says of the images' pixels; lengths that were stored with the
            wrong pixel size (the shifts) are scaled with it, and `write_star` writes the corrected
            values.

        Returns
        -------
        ParticleSet

        Raises
        ------
        InputError
            If the file holds no single particles, or lacks or contradicts what is needed to use
            them.
        """
        path = Path(path)
        if pixel_size_angstrom is not None and not 0 < pixel_size_angstrom < np.inf:
            raise InputError(
                "--pixel-size", f"{pixel_size_angstrom:g} is not a pixel size", "Give it in Å"
            )
        if path.suffix.lower() == ".cs":
            metadata = read_cryosparc_particles(
                path, Path(passthrough) if passthrough else None, pixel_size_angstrom
            )
        elif passthrough is not None:
            raise InputError(
                path, "takes no passthrough file: it is not a .cs file", "Leave --passthrough out"
            )
        else:
            metadata = read_relion_particles(path, pixel_size_angstrom)
        return cls(**vars(metadata))

    def __getitem__(self, indices: Indices) -> ParticleSet:
        """Choose particles by a mask, indices, a slice, or one index (a set of one)."""
        if not isinstance(indices, slice):
            asked = np.atleast_1d(np.asarray(indices))
            indices = (
                asked if asked.size else asked.astype(np.int64)
            )  # an empty list has no type of its own
        chosen = np.arange(len(self))[indices]
        arrays = {name: getattr(self, name)[chosen] for name in _PER_PARTICLE}
        new_columns = {name: values[chosen] for name, values in self.new_columns.items()}
        return replace(self, new_columns=new_columns, **arrays)

    @property
    def source(self) -> Path:
        """The file the particles came from."""
        return self.table.path

    def column(self, name: str) -> NDArray[Any]:
        """Read any column of the file.

        Parameters
        ----------
        name
            As in the file: `rlnDefocusU`, or `alignments3D/cross_cor`; a column of vectors cannot
            be read.

        Returns
        -------
        ndarray
            (n,) float64 where all its values are numbers, else text.

        Raises
        ------
        InputError
            If the file has no such column, or has changed since it was read.
        """
        if name in self.new_columns:
            return np.asarray(self.new_columns[name])
        values: NDArray[Any] = self.table.column(name)[self.row]
        return values

    def images(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Read images as they are stored.

        Parameters
        ----------
        indices
            (b,) positions in this set.

        Returns
        -------
        ndarray
            (b, box, box) float32.

        Raises
        ------
        InputError
            If a stack is missing or too short, the boxes differ among the images or from the
            file's, or a pixel is not a finite number; the message names the image.
        """
        chosen = np.atleast_1d(np.asarray(indices))
        images = self.files.read(self.image_file[chosen], self.image_slot[chosen], self.row[chosen])
        for group in np.unique(self.optics_group[chosen]):
            optics = self.optics[group]
            if optics.box_px not in {0, images.shape[-1]}:
                problem = (
                    f"says the box of {optics.name} is {optics.box_px} px, its images "
                    f"are {images.shape[-1]} px"
                )
                raise InputError(
                    self.source,
                    problem,
                    "Correct rlnImageSize, or give the images that belong to it",
                )
        return images

    def write_star(
        self,
        path: str | Path,
        extra_columns: Mapping[str, ArrayLike] | None = None,
        images: StoredImages | None = None,
    ) -> None:
        """Write the particles as a STAR file with every column of the file they came from.

        Parameters
        ----------
        path
            File to write; it replaces an old one only when it is complete.
        extra_columns
            (n,) values by column name, such as `rlnKinesphereLatent1`; a column that is there
            already is replaced.
        images
            Another stack that the image names, pixel size, box and pixel origins are to describe.

        Raises
        ------
        InputError
            If the file the particles came from has changed since, or `path` cannot be written.
        ValueError
            If a column does not have one value a particle.
        """
        columns = {
            name: np.asarray(values)
            for name, values in {**self.new_columns, **(extra_columns or {})}.items()
        }
        for name, values in columns.items():
            if values.shape != (len(self),):
                raise ValueError(
                    f"column {name} has shape {values.shape} for {len(self)} particles"
                )
        self.table.write_star(Path(path), self, columns, images)

    def write_cs(self, path: str | Path) -> None:
        """Write the particles as a cryoSPARC file, the rows unchanged; new columns cannot go there.

        Parameters
        ----------
        path
            File to write; it replaces an old one only when it is complete.

        Raises
        ------
        InputError
            If the particles come from a STAR file, or `path` cannot be written.
        """
        self.table.write_cs(Path(path), self)

    def unsupported_optics(
        self, resolution_angstrom: float | None = None
    ) -> list[tuple[OpticsGroup, str]]:
        """List optical effects that matter for these particles and that the image model leaves out.

        Parameters
        ----------
        resolution_angstrom
            Finest resolution that will be used; by default each group's Nyquist.

        Returns
        -------
        list of (OpticsGroup, str)
            The group, and its field, value and size of effect.
        """
        used = [self.optics[group] for group in np.unique(self.optics_group)]
        return [
            (group, effect)
            for group in used
            for effect in group.unmodelled_effects(resolution_angstrom)
        ]

    def require_simple_optics(self, resolution_angstrom: float | None = None) -> None:
        """Refuse images with optical effects that the image model leaves out.

        Raises
        ------
        InputError
            Naming the first group and field.
        """
        effects = self.unsupported_optics(resolution_angstrom)
        if effects:
            group, effect = effects[0]
            more = f" (and {len(effects) - 1} more effects)" if len(effects) > 1 else ""
            remedy = (
                "Use a coarser resolution, subtract it in RELION, or pass "
                "--ignore-aberrations to leave it out"
            )
            raise InputError(self.source, f"optics group {group.name} has {effect}{more}", remedy)

    def require_poses(self) -> None:
        """Refuse particles whose orientations are not known.

        Raises
        ------
        InputError
            Saying what is missing.
        """
        if not self.has_poses:
            remedy = (
                "Give the particles of a consensus refinement (RELION Refine3D, cryoSPARC "
                "homogeneous refinement)"
            )
            why = next(
                (warning for warning in self.warnings if warning.startswith("no poses")), "no poses"
            )
            raise InputError(self.source, why, remedy)

    def require_ctf(self) -> None:
        """Refuse particles whose CTF is not known.

        Raises
        ------
        InputError
            Saying what is missing.
        """
        if not self.has_ctf:
            remedy = "Give a file with defocus, voltage and spherical aberration"
            raise InputError(self.source, "holds no CTF parameters", remedy)


_PER_PARTICLE = (
    "rotation",
    "shift_angstrom",
    "defocus_u_angstrom",
    "defocus_v_angstrom",
    "defocus_angle_degrees",
    "phase_shift_degrees",
    "ctf_b_factor",
    "ctf_scale",
    "optics_group",
    "half",
    "image_file",
    "image_slot",
    "row",
)
