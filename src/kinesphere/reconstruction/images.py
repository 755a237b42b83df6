"""The images as backprojection takes them: re-centred, times CTF over noise power, with their
precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.fourier import centred_rfft2, radial_average, radial_shell_index, shift_fourier
from kinesphere.imaging.ctf import evaluate_ctf
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.particles import ParticleSet
from kinesphere.particles.ctf_parameters import ctf_parameters
from kinesphere.particles.streaming import ImageLoader
from kinesphere.reconstruction.operator import below_nyquist

_IMAGES_FOR_NOISE = 1000
_BACKGROUND_RADIUS = 0.75
_BACKGROUND_EDGE = 0.15


@dataclass(frozen=True, eq=False)
class WeightedBatch:
    """Some images, on the half plane below Nyquist.

    Parameters
    ----------
    data
        (b, n, n // 2 + 1) CTF · image / noise power, the molecule's centre at the phase origin.
    precision
        (b, n, n // 2 + 1) CTF² / noise power.
    rotation
        (b, 3, 3) R with x_image = Rᵀ · x_volume.
    """

    data: Complex[Tensor, "b n half"]
    precision: Float[Tensor, "b n half"]
    rotation: Float[Tensor, "b 3 3"]


class WeightedImages:
    """Reads particles and weights them by CTF and noise.

    Parameters
    ----------
    particles
        With poses and CTF.
    loader
        Serves their images.
    noise_power
        (n_groups, n // 2 + 1) power of the noise in each shell of each optics group
        (`noise_power`).
    """

    def __init__(
        self,
        particles: ParticleSet,
        loader: ImageLoader,
        noise_power: Float[Tensor, "groups shells"],
    ) -> None:
        self.grid = RenderGrid(loader.grid.box_px, loader.grid.pixel_size_angstrom)
        self._particles = particles
        self._loader = loader
        shell = radial_shell_index(self.grid.box).clamp_max(self.grid.box // 2)
        self._weight = (1.0 / noise_power)[:, shell] * below_nyquist(self.grid.box)  # (g, n, half)

    def batch(self, rows: Int[np.ndarray, " b"]) -> WeightedBatch:
        """Read some images."""
        particles = self._particles
        pixel = self.grid.pixel_size_angstrom
        shift = torch.from_numpy(-particles.shift_angstrom[rows] / pixel).float()
        images = shift_fourier(centred_rfft2(self._loader.load(rows)), shift)
        transfer = self._transfer(rows)
        weighted = transfer * self._weight[torch.from_numpy(particles.optics_group[rows])]
        return WeightedBatch(images * weighted, transfer * weighted, self.rotation(rows))

    def geometry(
        self, rows: Int[np.ndarray, " b"]
    ) -> tuple[Float[Tensor, "b n half"], Float[Tensor, "b 3 3"]]:
        """Precision and pose of some images, without reading them."""
        group = torch.from_numpy(self._particles.optics_group[rows])
        return self._transfer(rows) ** 2 * self._weight[group], self.rotation(rows)

    def _transfer(self, rows: NDArray[np.int64]) -> Tensor:
        return evaluate_ctf(
            ctf_parameters(self._particles, rows), self.grid.box, self.grid.pixel_size_angstrom
        )

    def rotation(self, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b 3 3"]:
        """R of some images, with x_image = Rᵀ · x_volume."""
        return torch.from_numpy(self._particles.rotation[rows]).float()


def noise_power(
    particles: ParticleSet, loader: ImageLoader, rows: Int[np.ndarray, " n"], batch_size: int
) -> Float[Tensor, "groups shells"]:
    """Estimate the noise from the background of the images: power of a Fourier coefficient in each
    shell.

    The images are multiplied by a window that is one beyond three quarters of the half box and
    falls smoothly to zero further in; the power that is left, divided by the mean square of the
    window, is that of the noise. Of many images, a thousand, evenly spread, are used.

    Parameters
    ----------
    particles
        The particles.
    loader
        Serves their images.
    rows
        The particles to use: those of one half set, so that the halves share nothing.
    batch_size
        Images read at once.

    Returns
    -------
    Tensor
        (n_groups, n // 2 + 1); a group without images has the mean of the others.
    """
    box = loader.grid.box_px
    axis = torch.arange(box) - box // 2
    radius = torch.hypot(axis[:, None].float(), axis.float()) / (box / 2)
    window = 0.5 - 0.5 * torch.cos(
        torch.pi * ((radius - _BACKGROUND_RADIUS) / _BACKGROUND_EDGE + 1.0).clamp(0.0, 1.0)
    )
    chosen = rows[:: max(len(rows) // _IMAGES_FOR_NOISE, 1)]
    total = torch.zeros(len(particles.optics), box // 2 + 1)
    count = torch.zeros(len(particles.optics))
    for part in np.array_split(chosen, max(len(chosen) // batch_size, 1)):
        group = torch.from_numpy(particles.optics_group[part])
        power = radial_average(centred_rfft2(loader.load(part) * window).abs() ** 2, box)
        total.index_add_(0, group, power / (window**2).mean())
        count.index_add_(0, group, torch.ones(len(part)))
    mean = total.sum(0) / count.sum()
    result = torch.where(count[:, None] > 0, total / count.clamp_min(1.0)[:, None], mean)
    result[:, 0] = result[:, 1]  # normalisation took the mean out of the background
    return result.clamp_min(1e-6 * float(result.max()))
