"""Fourier-crop, normalise or invert images into one stack, or prepare them for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from kinesphere.errors import InputError, KinesphereError
from kinesphere.particles.options import BACKGROUND_FRACTION, LoaderOptions
from kinesphere.progress_bar import progress_bar
from kinesphere.runtime import Interrupts, claimed, console, interrupts

if TYPE_CHECKING:
    from kinesphere.particles import ImageGrid, ParticleSet


@dataclass(frozen=True)
class PreprocessOptions:
    """Options of `kinesphere preprocess`."""

    particles: tyro.conf.Positional[Path]
    """RELION STAR file or cryoSPARC .cs file."""
    out: Path
    """Folder for particles.mrcs and particles.star, or for coefficients.safetensors."""
    cache: bool = False
    """Instead of a stack, write what `segments` and `field` take as --cache: the coefficients of
    the normalised images, in float16. Prepared once for any number of runs, and never all in
    memory."""
    resolution_angstrom: float = 5.0
    """With --cache, finest resolution that a run may use, in Å."""
    ignore_aberrations: bool = False
    """With --cache, go on although aberrations are recorded; they are left out."""
    box: int | None = None
    """Fourier-crop to this even box in pixels: same field of view, coarser pixels."""
    normalise: bool = False
    """Give the background of each image zero mean and unit standard deviation."""
    remove_ramp: bool = False
    """Subtract the plane that fits the background best."""
    background_radius_fraction: float = BACKGROUND_FRACTION
    """Pixels further from the centre than this fraction of half the box are background."""
    invert_contrast: bool = False
    """Change the sign of the images, for stacks where the molecule is dark."""
    overwrite: bool = False
    """Replace an earlier result in the folder."""
    passthrough: Path | None = None
    """cryoSPARC passthrough file with the columns that the .cs file lacks."""
    pixel_size: float | None = None
    """Å per pixel of the stored images, where the file is wrong or silent."""


def run(options: PreprocessOptions) -> None:
    """Write the processed stack and its STAR file, and say what they are."""
    from kinesphere.particles import ParticleSet
    from kinesphere.particles.restack import STAR_FILE

    particles = ParticleSet.read(
        options.particles, passthrough=options.passthrough, pixel_size_angstrom=options.pixel_size
    )
    if options.cache:
        _write_cache(particles, options)
        return
    processing = LoaderOptions(
        box_px=options.box,
        normalise=options.normalise,
        remove_ramp=options.remove_ramp,
        background_radius_fraction=options.background_radius_fraction,
        invert_contrast=options.invert_contrast,
    )
    grid = _restack_with_progress(particles, options, processing)
    _report(options.out / STAR_FILE, len(particles), grid)


def _write_cache(particles: ParticleSet, options: PreprocessOptions) -> None:
    from kinesphere.config import require_positive
    from kinesphere.observations.coefficient_cache import CACHE_FILE
    from kinesphere.observations.options import ImagesConfig
    from kinesphere.observations.prepare import write_cache

    for given, name in (
        (options.box, "--box"),
        (options.remove_ramp, "--remove-ramp"),
        (options.background_radius_fraction != BACKGROUND_FRACTION, "--background-radius-fraction"),
    ):
        if given:
            raise InputError(
                name, "does not go with --cache", "Write a stack with it first, and a cache of that"
            )
    require_positive(resolution_angstrom=options.resolution_angstrom)
    path = options.out / CACHE_FILE
    if path.exists() and not options.overwrite:
        raise InputError(
            path, "is there already", "Give another folder with --out, or pass --overwrite"
        )
    config = ImagesConfig(
        resolution_angstrom=options.resolution_angstrom,
        invert_contrast=options.invert_contrast,
        ignore_aberrations=options.ignore_aberrations,
    )
    with claimed(options.out), _progress(len(particles)) as advance:
        band = write_cache(particles, config, path, advance)
    finest = band.field_of_view_angstrom / band.n_shells
    size = f"{path.stat().st_size / 1e9:.3g} GB"
    summary = (
        f"{len(particles):,} images of {len(band)} coefficients to {finest:.3g} Å, {size}: {path}"
    )
    console.print(summary, highlight=False, soft_wrap=True)


def _restack_with_progress(
    particles: ParticleSet, options: PreprocessOptions, processing: LoaderOptions
) -> ImageGrid:
    from kinesphere.particles.restack import restack

    with _progress(len(particles)) as advance:
        return restack(
            particles, options.out, processing, overwrite=options.overwrite, progress=advance
        )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar; yields the function that moves it on, which is also where an interrupt stops the
    work.
    """
    with interrupts() as flag, progress_bar("Processing images", total) as show:

        def advance(n_images: int) -> None:
            show(n_images)
            _stop_if_asked(flag)

        yield advance


def _stop_if_asked(flag: Interrupts) -> None:
    if flag.signal_number is not None:
        stop = KinesphereError("Stopped, and nothing was written. The same command starts again")
        stop.exit_code = 128 + flag.signal_number
        raise stop


def _report(star: Path, n_images: int, grid: ImageGrid) -> None:
    from kinesphere.particles import ParticleSet, estimate_contrast_sign

    summary = (
        f"{n_images:,} images of {grid.box_px} px at {grid.pixel_size_angstrom:.5g} Å/px: {star}"
    )
    console.print(summary, highlight=False, soft_wrap=True)
    contrast = estimate_contrast_sign(ParticleSet.read(star))
    style = "yellow" if contrast.sign < 0 else ""
    console.print(f"{contrast.statement}.", style=style, highlight=False, soft_wrap=True)
