"""A processed copy of a particle set: one stack, and a STAR file in which everything else stays as
it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kinesphere.errors import InputError
from kinesphere.io.mrc import stack_writer
from kinesphere.particles.grid import ImageGrid
from kinesphere.particles.metadata import StoredImages
from kinesphere.particles.options import LoaderOptions
from kinesphere.particles.particle_set import ParticleSet
from kinesphere.particles.streaming import ImageLoader
from kinesphere.runtime import claimed

STACK_FILE = "particles.mrcs"
STAR_FILE = "particles.star"


def restack(
    particles: ParticleSet,
    folder: Path,
    options: LoaderOptions,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImageGrid:
    """Write processed images and their table as particles.mrcs and particles.star in a folder.

    The table keeps every column; image names, pixel size, box and origins in pixels describe the
    new stack, which is named by `folder` as given, so that RELION finds it from where the program
    was started.

    Parameters
    ----------
    particles
        The images and their table.
    folder
        Made where missing.
    options
        How to process; order and centring are left out, since the table keeps the shifts.
    overwrite
        Replace an earlier result in `folder`.
    progress
        Called with the number of images written since the last call.

    Returns
    -------
    ImageGrid
        Of the new images.

    Raises
    ------
    InputError
        If an image cannot be used, `folder` holds a result and `overwrite` is false, or holds the
        input itself.
    """
    stack = folder / STACK_FILE
    star = folder / STAR_FILE
    _require_free(particles, stack, star, overwrite=overwrite)
    _require_all_images(particles)
    loader = ImageLoader(particles, replace(options, shuffle=False, centre=False, preload_bytes=0))
    box = loader.grid.box_px
    pixel_size = loader.grid.pixel_size_angstrom
    with claimed(folder), stack_writer(stack, (len(particles), box, box), pixel_size) as writer:
        for batch in loader.epoch():
            writer.write(batch.images.numpy())
            if progress is not None:
                progress(len(batch.images))
    particles.write_star(star, images=StoredImages(str(stack), pixel_size, box))
    return loader.grid


def _require_free(particles: ParticleSet, stack: Path, star: Path, *, overwrite: bool) -> None:
    inputs = {
        path.resolve()
        for path in map(particles.files.path, range(len(particles.files.names)))
        if path
    }
    if stack.resolve() in inputs or star.resolve() == particles.source.resolve():
        raise InputError(
            stack.parent, "holds the particles to be processed", "Give another folder with --out"
        )
    for path in (stack, star):
        if path.exists() and not overwrite:
            raise InputError(
                path, "is there already", "Give another folder with --out, or pass --overwrite"
            )


def _require_all_images(particles: ParticleSet) -> None:
    """Look for every image before the first is processed: a missing stack should not end a job
    after hours.
    """
    order = np.argsort(particles.image_file, kind="stable")
    files, starts = np.unique(particles.image_file[order], return_index=True)
    for file, rows in zip(files, np.split(order, starts[1:]), strict=True):
        particles.files.require_present(int(file), particles.image_slot[rows], particles.row[rows])
