"""From particle files to observations: read, normalise, transform, re-centre, and keep in memory or on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.fourier import centred_rfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import recentre
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.inference.observations import Observations
from kinesphere.particles.ctf_parameters import ctf_parameters
from kinesphere.particles.particle_set import ParticleSet
from kinesphere.particles.streaming import ImageLoader, LoaderOptions
from kinesphere.ranks import ALONE, Ranks

_IMAGES_AT_ONCE = 256
_BYTES_PER_COEFFICIENT = 8
_FEWEST_SHELLS = 4
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file there is memory that several processes see


@dataclass(frozen=True)
class ImagesConfig:
    """Which part of the images is used, and how they are prepared."""

    resolution_angstrom: float = 5.0
    """Finest resolution used, in Å; one Gaussian a residue explains nothing finer. Coarser where the pixels are."""
    normalise: bool = True
    """Give the background of each image zero mean and unit standard deviation first."""
    invert_contrast: bool = False
    """Change the sign of the images: for stacks in which the molecule is dark."""
    ignore_aberrations: bool = False
    """Go on although beam tilt, anisotropic magnification or other aberrations are recorded; they are left out."""
    memory_gigabytes: float = 4.0
    """Prepared images beyond this size are kept in a nameless file on the disk of the run folder."""


def observe(
    particles: ParticleSet,
    config: ImagesConfig,
    scratch: Path,
    progress: Callable[[int], None] | None = None,
    ranks: Ranks = ALONE,
) -> Observations:
    """Prepare every particle image.

    The ranks of a machine prepare a part each, and all see the same memory.

    Parameters
    ----------
    particles
        Particles with poses and CTF.
    config
        What to use of them.
    scratch
        Folder whose disk holds prepared images that do not fit the memory budget, in a file without a name.
    progress
        Called with the number of images done since the last call.
    ranks
        Who needs them.

    Returns
    -------
    Observations
        On the CPU; the same optics group order as in `particles`.

    Raises
    ------
    InputError
        If poses or CTF are missing, or an image cannot be used.
    """
    _require_complete(particles, config)
    options = LoaderOptions(shuffle=False, normalise=config.normalise, invert_contrast=config.invert_contrast)
    loader = ImageLoader(particles, options)
    grid = RenderGrid(loader.grid.box_px, loader.grid.pixel_size_angstrom)
    band = _band(grid, config.resolution_angstrom)
    shift = torch.from_numpy(np.ascontiguousarray(particles.shift_angstrom, dtype=np.float32))
    near = ranks.on_this_machine()
    data = _allocate(len(particles), len(band), config.memory_gigabytes, scratch, near)
    for rows in torch.arange(len(particles)).split(_IMAGES_AT_ONCE * near.size):
        own = rows.tensor_split(near.size)[near.rank]
        if len(own) > 0:
            coefficients = band.select(centred_rfft2(loader.load(own.numpy())))
            data[own] = recentre(coefficients, shift[own], band)
        if progress is not None:
            progress(len(rows))
    near.barrier()
    return Observations(
        data=data,
        rotation=torch.from_numpy(np.ascontiguousarray(particles.rotation, dtype=np.float32)),
        ctf=ctf_parameters(particles),
        group=torch.from_numpy(np.ascontiguousarray(particles.optics_group, dtype=np.int64)),
        band=band,
    )


def _require_complete(particles: ParticleSet, config: ImagesConfig) -> None:
    if len(particles) == 0:
        raise InputError(particles.source, "has no particles", "Check the selection that made it")
    particles.require_poses()
    particles.require_ctf()
    if not config.ignore_aberrations:
        particles.require_simple_optics(config.resolution_angstrom)


def _band(grid: RenderGrid, resolution_angstrom: float) -> FourierBand:
    field_of_view = grid.box * grid.pixel_size_angstrom
    return FourierBand.of_grid(grid, max(int(field_of_view / resolution_angstrom), _FEWEST_SHELLS))


def _allocate(n_images: int, n_coefficients: int, memory_gigabytes: float, scratch: Path, ranks: Ranks) -> Tensor:
    n_values = n_images * n_coefficients
    n_bytes = n_values * _BYTES_PER_COEFFICIENT
    fits = n_bytes <= memory_gigabytes * 1e9
    if fits and ranks.size == 1:
        return torch.empty(n_images, n_coefficients, dtype=torch.complex64)
    # once mapped, the file needs no name: however the program ends, its space is free again
    folder = _SHARED_MEMORY if fits and _has_room(_SHARED_MEMORY, n_bytes) else scratch
    with ExitStack() as until_mapped:

        def name_file() -> str:
            made = tempfile.NamedTemporaryFile(dir=folder, prefix=".images-")  # noqa: SIM115 - the stack closes it
            return until_mapped.enter_context(made).name

        file = ranks.from_first(name_file)
        mapped = torch.from_file(file, shared=True, size=n_values, dtype=torch.complex64)
        ranks.barrier()
    return mapped.reshape(n_images, n_coefficients)


def _has_room(folder: Path, n_bytes: int) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free > 2 * n_bytes
