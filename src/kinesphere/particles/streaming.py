"""Batches of particle images for training: shuffled, processed and read ahead, in memory that stays
flat.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.fourier import centred_irfft2, centred_rfft2, shift_fourier
from kinesphere.particles.grid import ImageGrid, common_grid, resample, resampling_matrix
from kinesphere.particles.optics import OpticsGroup
from kinesphere.particles.options import LoaderOptions
from kinesphere.particles.particle_set import ParticleSet
from kinesphere.particles.preprocess import (
    background_mask,
    background_statistics,
    fourier_crop_images,
    subtract_ramp,
)


class ImageBatch(NamedTuple):
    """Some images and their rows in the particle set."""

    rows: Int[Tensor, " b"]
    images: Float[Tensor, "b n n"]


class ImageLoader:
    """Serves the processed images of a particle set.

    Memory holds `prefetch` + 2 batches and eight bytes a particle (the order of the epoch), unless
    the images are preloaded.

    Parameters
    ----------
    particles
        The images; optics groups of different pixel size or box are brought onto `common_grid`.
    options
        See `LoaderOptions`.

    Attributes
    ----------
    grid
        Box and pixel size of the images that are served.
    """

    def __init__(self, particles: ParticleSet, options: LoaderOptions | None = None) -> None:
        self.options = options or LoaderOptions()
        self._particles = particles
        groups = _occupied_groups(particles)
        self.grid: ImageGrid = common_grid(
            list(groups.values()), self.options.box_px, particles.source
        )
        self._resampling = {
            number: self._plan_resampling(group) for number, group in groups.items()
        }
        self._require_background()
        self._kept: Tensor | None = None
        if len(particles) * self.grid.box_px**2 * 4 <= self.options.preload_bytes:
            self._kept = self._preload()

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return math.ceil(len(self._particles) / self.options.batch_size)

    @property
    def is_preloaded(self) -> bool:
        """Whether all images are in memory."""
        return self._kept is not None

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of all rows in one epoch, the same for the same seed and epoch.

        Parameters
        ----------
        epoch
            Number of the epoch.

        Returns
        -------
        ndarray
            ``(n_particles,)``.
        """
        n = len(self._particles)
        if not self.options.shuffle:
            return np.arange(n)
        return np.random.default_rng([self.options.seed, epoch]).permutation(n)

    def epoch(self, epoch: int = 0, first_batch: int = 0) -> Iterator[ImageBatch]:
        """Serve every image once.

        Parameters
        ----------
        epoch
            Number of the epoch, which sets the order.
        first_batch
            Batches to leave out: where an interrupted epoch goes on.

        Yields
        ------
        ImageBatch
            Rows in ascending order within a batch, which reads the disk forwards.
        """
        order = self.order(epoch)
        size = self.options.batch_size
        rows = (
            np.sort(order[start : start + size])
            for start in range(first_batch * size, len(order), size)
        )
        if self.options.prefetch == 0 or self.is_preloaded:
            yield from map(self._batch, rows)
            return
        pending: deque[Future[ImageBatch]] = deque()
        reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="image-reader")
        try:
            for chosen in rows:
                pending.append(reader.submit(self._batch, chosen))
                if len(pending) > self.options.prefetch:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            reader.shutdown(wait=True, cancel_futures=True)

    def load(self, indices: ArrayLike) -> Float[Tensor, "b n n"]:
        """Read and process some images.

        Parameters
        ----------
        indices
            ``(b,)`` rows of the particle set.

        Returns
        -------
        Tensor
            ``(b, box, box)`` float32 on `grid`.

        Raises
        ------
        InputError
            If an image is constant or holds values that are not finite.
        """
        rows = np.asarray(indices, dtype=np.int64)
        if self._kept is not None:
            return self._kept[torch.from_numpy(rows)]
        images = self._normalise(self._read(rows), rows)
        if not self.options.centre:
            return images
        shift = torch.from_numpy(
            self._particles.shift_angstrom[rows] / self.grid.pixel_size_angstrom
        )
        return centred_irfft2(
            shift_fourier(centred_rfft2(images), -shift.float()), self.grid.box_px
        )

    def _batch(self, rows: NDArray[np.int64]) -> ImageBatch:
        return ImageBatch(torch.from_numpy(rows), self.load(rows))

    def _preload(self) -> Tensor:
        n = len(self._particles)
        size = self.options.batch_size
        kept = torch.empty(n, self.grid.box_px, self.grid.box_px)
        for start in range(0, n, size):
            kept[start : start + size] = self.load(np.arange(start, min(start + size, n)))
        return kept

    def _plan_resampling(self, optics: OpticsGroup) -> Tensor | None:
        """Matrix that brings a group onto the grid; None where Fourier-cropping (or nothing)
        does.
        """
        stored = ImageGrid(optics.box_px, optics.pixel_size_angstrom)
        if abs(stored.extent_angstrom - self.grid.extent_angstrom) < 1e-6 * stored.extent_angstrom:
            return None
        return resampling_matrix(stored, self.grid)

    def _require_background(self) -> None:
        if not (self.options.normalise or self.options.remove_ramp):
            return
        try:
            background_mask(self.grid.box_px, self._background_radius)
        except ValueError as error:
            problem = f"{self.options.background_radius_fraction:g} leaves no background: {error}"
            raise InputError(
                "--background-radius-fraction", problem, "Use a fraction from 0 to 1"
            ) from error

    @property
    def _background_radius(self) -> float:
        return self.options.background_radius_fraction * self.grid.box_px / 2

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        """Images on the grid with the asked sign, not yet normalised."""
        images = torch.empty(len(rows), self.grid.box_px, self.grid.box_px)
        groups = self._particles.optics_group[rows]
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            stored = torch.from_numpy(self._particles.images(rows[members]))
            self._require_usable(stored, rows[members])
            matrix = self._resampling[int(group)]
            there = (
                fourier_crop_images(stored, self.grid.box_px)
                if matrix is None
                else resample(stored, matrix)
            )
            images[torch.from_numpy(members)] = there
        return -images if self.options.invert_contrast else images

    def _normalise(self, images: Tensor, rows: NDArray[np.int64]) -> Tensor:
        if self.options.remove_ramp:
            images = subtract_ramp(images, self._background_radius)
        if not self.options.normalise:
            return images
        mean, sd = background_statistics(images, self._background_radius)
        deviation = images - mean[:, None, None]
        # Relative to the whole image: interpolation leaves rounding noise on a background that was
        # masked to zero.
        whole = torch.linalg.vector_norm(deviation, dim=(1, 2)) / images.shape[-1]
        self._refuse(
            sd <= 1e-5 * whole,
            rows,
            "has a constant background",
            "Use images without a mask, or do not normalise",
        )
        return deviation.div_(sd[:, None, None])

    def _require_usable(self, stored: Tensor, rows: NDArray[np.int64]) -> None:
        remedy = "Leave it out of the particle file"
        sums = stored.sum(dim=(1, 2), dtype=torch.float64)
        self._refuse(
            ~torch.isfinite(sums), rows, "holds values that are not finite numbers", remedy
        )
        self._refuse(
            stored.amax(dim=(1, 2)) == stored.amin(dim=(1, 2)), rows, "is constant", remedy
        )

    def _refuse(self, bad: Tensor, rows: NDArray[np.int64], problem: str, remedy: str) -> None:
        if bool(bad.any()):
            first = rows[int(bad.int().argmax())]
            n_bad = int(bad.sum())
            stack = self._particles.files.names[self._particles.image_file[first]]
            name = (
                f"image {self._particles.image_slot[first] + 1} of {stack} (row "
                f"{self._particles.row[first] + 1})"
            )
            more = f", and {n_bad - 1} more of {len(rows)} read with it" if n_bad > 1 else ""
            raise InputError(self._particles.source, f"{name} {problem}{more}", remedy)


def _occupied_groups(particles: ParticleSet) -> dict[int, OpticsGroup]:
    """Optics groups with particles by number, their boxes read from an image where the file does
    not say.
    """
    if len(particles) == 0:
        raise InputError(particles.source, "has no particles", "Check the selection that made it")
    groups = {}
    for number, example in zip(*np.unique(particles.optics_group, return_index=True), strict=True):
        group = particles.optics[number]
        box_px = group.box_px or particles.images(example).shape[-1]
        groups[int(number)] = replace(group, box_px=box_px)
    return groups
