"""From particle files to observations: read, normalise, transform, re-centre, and keep in memory or
on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.fourier import centred_rfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import recentre
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.observations.coefficient_cache import SHELLS, open_cache, origin_of
from kinesphere.observations.coefficient_file import coefficient_writer, scratch_writer
from kinesphere.observations.coefficients import (
    BYTES_EXACT,
    BYTES_HALF,
    ExactKeeper,
    HalfCoefficients,
    HalfKeeper,
    Keeper,
)
from kinesphere.observations.observations import Observations
from kinesphere.observations.options import ImagesConfig, Place
from kinesphere.observations.shared_coefficients import shared_keeper
from kinesphere.particles.ctf_parameters import ctf_parameters
from kinesphere.particles.options import LoaderOptions
from kinesphere.particles.particle_set import ParticleSet
from kinesphere.particles.streaming import ImageLoader
from kinesphere.ranks import ALONE, Ranks

_IMAGES_AT_ONCE = 256
_PART_OF_FREE_GPU = 0.25  # for images, where nobody says: the rest is for the renderer
_FEWEST_SHELLS = 4


def prepare_images(
    particles: ParticleSet,
    config: ImagesConfig,
    scratch: Path,
    progress: Callable[[int], None] | None = None,
    device: torch.device | str = "cpu",
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
        Folder whose disk holds prepared images that are not to be in memory, in a file without a
        name.
    progress
        Called with the number of images done since the last call.
    device
        Where the images are going to be used.
    ranks
        Who needs them.

    Returns
    -------
    Observations
        On the CPU unless a GPU is to hold the images; the same optics group order as in
        `particles`.

    Raises
    ------
    InputError
        If poses or CTF are missing, an image cannot be used, or there is no room.
    """
    _require_complete(particles, config)
    loader, band = _open_images(particles, config)
    place = _choose_place(config, len(particles) * len(band), torch.device(device))
    if config.cache is None:
        near = ranks.on_this_machine()
        with _keeper(place, (len(particles), len(band)), scratch, device, near) as keeper:
            _write_images(particles, loader, band, keeper.write, progress, near)
            data = keeper.finish()
    else:
        # ranks that share a machine share the system's cache of the file, where each would load a
        # copy
        place = "disk" if place == "memory" and ranks.size > 1 else place
        data = _from_cache(config.cache, origin(particles, config), place, device)
    observations = Observations(
        data=data,
        rotation=torch.from_numpy(np.ascontiguousarray(particles.rotation, dtype=np.float32)),
        ctf=ctf_parameters(particles),
        group=torch.from_numpy(np.ascontiguousarray(particles.optics_group, dtype=np.int64)),
        band=band,
    )
    return (
        observations.to(device)
        if _belongs_on(torch.device(device), place, config, observations)
        else observations
    )


def write_cache(
    particles: ParticleSet,
    config: ImagesConfig,
    path: Path,
    progress: Callable[[int], None] | None = None,
) -> FourierBand:
    """Prepare every particle image and write them to a file for `ImagesConfig.cache`.

    Returns
    -------
    FourierBand
        What of the images is in it.

    Raises
    ------
    InputError
        If poses or CTF are missing, an image cannot be used, or the file cannot be written.
    """
    _require_complete(particles, config)
    loader, band = _open_images(particles, config)
    with coefficient_writer(path, len(particles), len(band), origin(particles, config)) as writer:
        _write_images(particles, loader, band, writer.write, progress)
    return band


def origin(particles: ParticleSet, config: ImagesConfig) -> dict[str, str]:
    """Describe what the prepared images of some particles follow from, for the file that keeps
    them.
    """
    loader, band = _open_images(particles, config)
    return origin_of(
        particles,
        box=loader.grid.box_px,
        pixel_size=f"{loader.grid.pixel_size_angstrom:.6g}",
        normalise=config.normalise,
        invert_contrast=config.invert_contrast,
        **{SHELLS: band.n_shells},
    )


def _require_complete(particles: ParticleSet, config: ImagesConfig) -> None:
    if len(particles) == 0:
        raise InputError(particles.source, "has no particles", "Check the selection that made it")
    particles.require_poses()
    particles.require_ctf()
    if not config.ignore_aberrations:
        particles.require_simple_optics(config.resolution_angstrom)


def _open_images(particles: ParticleSet, config: ImagesConfig) -> tuple[ImageLoader, FourierBand]:
    options = LoaderOptions(
        batch_size=_IMAGES_AT_ONCE,
        shuffle=False,
        normalise=config.normalise,
        invert_contrast=config.invert_contrast,
    )
    loader = ImageLoader(particles, options)
    grid = RenderGrid(loader.grid.box_px, loader.grid.pixel_size_angstrom)
    return loader, _band(grid, config.resolution_angstrom)


def _band(grid: RenderGrid, resolution_angstrom: float) -> FourierBand:
    field_of_view = grid.box * grid.pixel_size_angstrom
    return FourierBand.of_grid(grid, max(int(field_of_view / resolution_angstrom), _FEWEST_SHELLS))


def _write_images(
    particles: ParticleSet,
    loader: ImageLoader,
    band: FourierBand,
    write: Callable[[Tensor], None],
    progress: Callable[[int], None] | None,
    ranks: Ranks = ALONE,
) -> None:
    """Transform and re-centre the images of this rank's batches in their order."""
    shift = torch.from_numpy(np.ascontiguousarray(particles.shift_angstrom, dtype=np.float32))
    part = _own_batches(len(particles), ranks)
    for batch in islice(loader.epoch(first_batch=part.start), len(part)):
        write(recentre(band.select(centred_rfft2(batch.images)), shift[batch.rows], band))
        if progress is not None:
            progress(len(batch.rows) * ranks.size)


def _own_batches(n_images: int, ranks: Ranks) -> range:
    """Batches that a rank prepares: they lie together in the files."""
    n_batches = -(-n_images // _IMAGES_AT_ONCE)
    return range(n_batches * ranks.rank // ranks.size, n_batches * (ranks.rank + 1) // ranks.size)


def _choose_place(config: ImagesConfig, n_values: int, device: torch.device) -> Place:
    """Fill in `auto`, and refuse what cannot be.

    Raises
    ------
    InputError
        Naming the option.
    """
    place = config.coefficients
    budget = config.memory_gigabytes * 1e9
    if place == "gpu" and device.type != "cuda":
        raise InputError(
            "--coefficients",
            "gpu asks for a GPU, and none is used",
            "Use another place, or --device cuda",
        )
    if place == "exact" and config.cache is not None:
        raise InputError(
            "--coefficients",
            "exact cannot be had from --cache, which holds float16",
            "Leave one out",
        )
    if place != "auto":
        return place
    if n_values * BYTES_EXACT <= budget and config.cache is None:
        return "exact"
    return "memory" if n_values * BYTES_HALF <= budget else "disk"


def _keeper(
    place: Place, shape: tuple[int, int], scratch: Path, device: torch.device | str, ranks: Ranks
) -> AbstractContextManager[Keeper]:
    if ranks.size > 1:
        first = _own_batches(shape[0], ranks).start * _IMAGES_AT_ONCE
        return shared_keeper(
            scratch, shape, first, ranks, is_exact=place == "exact", on_disk=place == "disk"
        )
    if place == "disk":
        return scratch_writer(scratch, *shape)
    if place == "exact":
        return nullcontext(ExactKeeper(torch.empty(*shape, dtype=torch.complex64)))
    return nullcontext(HalfKeeper(shape, device if place == "gpu" else "cpu"))


def _from_cache(
    path: Path, expected: dict[str, str], place: Place, device: torch.device | str
) -> HalfCoefficients:
    mapped = open_cache(path, expected)
    return mapped if place == "disk" else mapped.loaded(device if place == "gpu" else "cpu")


def _belongs_on(
    device: torch.device, place: Place, config: ImagesConfig, observations: Observations
) -> bool:
    """Tell whether a GPU should hold the images: it was asked to, or nobody said and it has
    room.
    """
    if device.type != "cuda" or place == "disk" or config.coefficients not in {"auto", "gpu"}:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return place == "gpu" or observations.n_bytes <= _PART_OF_FREE_GPU * free
