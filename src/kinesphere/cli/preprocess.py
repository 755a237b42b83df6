"""Fourier-crop, normalise or invert particle images into one stack; every column of the table is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kinesphere.errors import KinesphereError
from kinesphere.particles import ParticleSet
from kinesphere.particles.contrast import estimate_contrast_sign
from kinesphere.particles.grid import ImageGrid
from kinesphere.particles.restack import STAR_FILE, restack
from kinesphere.particles.streaming import LoaderOptions
from kinesphere.runtime import Interrupts, console, interrupts


@dataclass(frozen=True)
class PreprocessOptions:
    """Options of `kinesphere preprocess`."""

    particles: tyro.conf.Positional[Path]
    """RELION STAR file or cryoSPARC .cs file."""
    out: Path
    """Folder for particles.mrcs and particles.star."""
    box: int | None = None
    """Fourier-crop to this even box in pixels: same field of view, coarser pixels."""
    normalise: bool = False
    """Give the background of each image zero mean and unit standard deviation."""
    remove_ramp: bool = False
    """Subtract the plane that fits the background best."""
    background_radius_fraction: float = 0.75
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
    particles = ParticleSet.read(
        options.particles, passthrough=options.passthrough, pixel_size_angstrom=options.pixel_size
    )
    processing = LoaderOptions(
        box_px=options.box,
        normalise=options.normalise,
        remove_ramp=options.remove_ramp,
        background_radius_fraction=options.background_radius_fraction,
        invert_contrast=options.invert_contrast,
    )
    grid = _restack_with_progress(particles, options, processing)
    _report(options.out / STAR_FILE, len(particles), grid)


def _restack_with_progress(particles: ParticleSet, options: PreprocessOptions, processing: LoaderOptions) -> ImageGrid:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with interrupts() as flag, progress:
        task = progress.add_task("Processing images", total=len(particles))

        def advance(n_images: int) -> None:
            progress.advance(task, n_images)
            _stop_if_asked(flag)

        return restack(particles, options.out, processing, overwrite=options.overwrite, progress=advance)


def _stop_if_asked(flag: Interrupts) -> None:
    if flag.signal_number is not None:
        stop = KinesphereError("Stopped, and nothing was written. The same command starts again")
        stop.exit_code = 128 + flag.signal_number
        raise stop


def _report(star: Path, n_images: int, grid: ImageGrid) -> None:
    summary = f"{n_images:,} images of {grid.box_px} px at {grid.pixel_size_angstrom:.5g} Å/px: {star}"
    console.print(summary, highlight=False, soft_wrap=True)
    contrast = estimate_contrast_sign(ParticleSet.read(star))
    style = "yellow" if contrast.sign < 0 else ""
    console.print(f"{contrast.statement}.", style=style, highlight=False, soft_wrap=True)
