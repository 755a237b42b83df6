"""Central slices in a Fourier volume: homogeneous backprojection, and the sampling that every
filter divides by.

Images and their precisions (CTF² over noise power) are inserted with a cubic B-spline into a volume
of twice the box, Friedel mates included; the spline's transform is divided out in real space. What
comes out is the exact transpose of projection without motion, and the kernel K of AᵀΛA, which then
is a convolution (the paper's D).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.fourier import fourier_grid, half_plane_weights
from kinesphere.kernels import bspline, slices
from kinesphere.reconstruction.operator import below_nyquist

PADDING = 2
_DATA_PARTS = 3


@dataclass(frozen=True, eq=False)
class SlicePlan:
    """The coefficients of a half plane that are inserted: below Nyquist, each pair of Friedel mates
    once.

    Parameters
    ----------
    index
        (m,) where they are in the flattened half plane.
    kx, ky
        (m,) float32, cycles per box.
    weight
        (m,) float32: 1, or ½ where a coefficient's mate is in the list too.
    """

    index: NDArray[np.int64]
    kx: NDArray[np.float32]
    ky: NDArray[np.float32]
    weight: NDArray[np.float32]

    @classmethod
    def of_box(cls, box: int) -> SlicePlan:
        """Make the plan of a box."""
        inside = below_nyquist(box).flatten().numpy() > 0
        ky, kx = (np.rint(k.flatten().numpy() * box).astype(np.float32) for k in fourier_grid(box))
        weight = 0.5 * half_plane_weights(box).flatten().numpy()
        return cls(
            np.flatnonzero(inside), kx[inside], ky[inside], weight[inside].astype(np.float32)
        )


class FourierVolume:
    """Sums of inserted slices.

    Parameters
    ----------
    box
        Edge of the images and of the maps, in pixels.
    sums
        (2 box, 2 box, box + 1, 3) float32, to go on from; zeros by default.
    """

    def __init__(self, box: int, sums: NDArray[np.float32] | None = None) -> None:
        self.box = box
        self.size = PADDING * box
        shape = (self.size, self.size, self.size // 2 + 1, _DATA_PARTS)
        self.sums = np.zeros(shape, dtype=np.float32) if sums is None else sums
        self._plan = SlicePlan.of_box(box)

    def insert(
        self,
        data: Complex[Tensor, "b n half"],
        precision: Float[Tensor, "b n half"],
        rotation: Float[Tensor, "b 3 3"],
    ) -> None:
        """Add images.

        Parameters
        ----------
        data
            CTF · image / noise power, re-centred, phase origin at the image centre.
        precision
            CTF² / noise power.
        rotation
            R with x_image = Rᵀ · x_volume.
        """
        plan = self._plan
        index = torch.from_numpy(plan.index)
        values, known = (
            array.cpu().flatten(1).index_select(1, index).numpy() for array in (data, precision)
        )
        turn = rotation.cpu().float().contiguous().numpy()
        slices.insert_slices(
            self.sums, values, known, turn, plan.kx, plan.ky, plan.weight, np.float32(PADDING)
        )

    def backprojection(self) -> Float[np.ndarray, "size size size"]:
        """Aᵀ of the images without motion, times `apodisation`: padded and periodic, box centre at
        index 0.
        """
        return _to_real(self.sums[..., 0] + 1j * self.sums[..., 1], self.size)

    def sampling(self) -> Float[np.ndarray, "size size half"]:
        """Precision of each Fourier coefficient of a map: real, not below zero, `[kz, ky, kx]`, DC
        at [0, 0, 0].

        It is normalised so that it is what AᵀΛA multiplies a wave with.
        """
        return symmetrise_plane(self.sums[..., 2].copy()) * np.float32(self.size**3)


def apodisation(size: int) -> NDArray[np.float32]:
    """Transform of the inserted spline along one axis of the padded map, (size,), the box centre at
    index 0.

    A map times this in x, y and z has a Fourier transform smoothed by the spline, as the sums of
    `FourierVolume` have.
    """
    return bspline.transform(scipy.fft.fftfreq(size)).astype(np.float32)


def symmetrise_plane(half: NDArray[np.inexact]) -> NDArray[np.inexact]:
    """Complete the plane kx = 0, in which only one of two Friedel mates was written, in place."""
    plane = half[:, :, 0]
    mirrored = np.roll(plane[::-1, ::-1], (1, 1), axis=(0, 1))
    half[:, :, 0] = plane + mirrored.conj()
    return half


def _to_real(half: NDArray[np.complex64], size: int) -> NDArray[np.float32]:
    """Unnormalised inverse transform of a half volume, box centre at index 0."""
    values: NDArray[np.float32] = scipy.fft.irfftn(
        symmetrise_plane(half),
        s=(size,) * 3,
        norm="forward",
        workers=torch.get_num_threads(),
        overwrite_x=True,
    )
    return values


def crop_centre(padded: Float[np.ndarray, "..."], box: int) -> Float[np.ndarray, "..."]:
    """Cut the box around index 0 out of a periodic array; the box centre comes to box // 2 along
    every axis.
    """
    index = np.arange(box) - box // 2
    return padded[np.ix_(*(index,) * padded.ndim)]


def pad_centre(volume: Float[np.ndarray, "..."], size: int) -> Float[np.ndarray, "..."]:
    """Transpose of `crop_centre`: a periodic array of zeros with the volume around index 0."""
    padded = np.zeros((size,) * volume.ndim, dtype=volume.dtype)
    index = np.arange(volume.shape[0]) - volume.shape[0] // 2
    padded[np.ix_(*(index,) * volume.ndim)] = volume
    return padded


def deconvolve(
    backprojected: Float[np.ndarray, "size size size"],
    gain: Float[np.ndarray, "size size half"],
    box: int,
) -> Float[np.ndarray, "n n n"]:
    """Multiply a backprojection by a filter in Fourier space, cut out the box and take the
    apodisation off.

    Parameters
    ----------
    backprojected
        As `FourierVolume.backprojection` gives it: apodised, padded, the box centre at index 0.
    gain
        The filter: one over the sampling, or its like.
    box
        Edge of the map.

    Returns
    -------
    ndarray
        (n, n, n) `[z, y, x]`, the box centre at n // 2.
    """
    size = backprojected.shape[0]
    spectrum = scipy.fft.rfftn(backprojected, workers=torch.get_num_threads())
    spectrum *= gain
    real = scipy.fft.irfftn(
        spectrum, s=(size,) * 3, workers=torch.get_num_threads(), overwrite_x=True
    )
    return crop_centre(real, box) / apodisation_of_box(box)


def apodisation_of_box(box: int) -> NDArray[np.float32]:
    """(n, n, n) values of `apodisation` on the voxels of a map."""
    line = crop_centre(apodisation(PADDING * box), box)
    return line[:, None, None] * line[:, None] * line


def shell_of_volume(size: int, box: int) -> NDArray[np.int64]:
    """Resolution shell, in cycles per box rounded to the nearest integer, of a half volume of
    another size.
    """
    k = scipy.fft.fftfreq(size, 1.0 / box)
    radius = np.sqrt(
        k[:, None, None] ** 2 + k[:, None] ** 2 + scipy.fft.rfftfreq(size, 1.0 / box) ** 2
    )
    return np.rint(radius).astype(np.int64)


def shell_mean(
    values: Float[np.ndarray, "size size half"], shell: NDArray[np.int64], n_shells: int
) -> NDArray[np.float64]:
    """Mean of a half volume's values over each shell 0 … n_shells − 1, mates counted."""
    weight = np.full(values.shape[-1], 2.0)
    weight[0] = 1.0
    if values.shape[0] % 2 == 0:
        weight[-1] = 1.0
    counted = np.broadcast_to(weight, values.shape).ravel()
    flat = np.minimum(shell.ravel(), n_shells)
    total = np.bincount(flat, values.ravel() * counted, n_shells + 1)
    count = np.bincount(flat, counted, n_shells + 1)
    mean: NDArray[np.float64] = (total / np.maximum(count, 1.0))[:n_shells]
    return mean


def homogeneous_filter(
    sampling: Float[np.ndarray, "size size half"], box: int, floor: float = 1e-3
) -> NDArray[np.float32]:
    """One over the sampling, at least `floor` of its shell's mean (RELION's rule); zero from
    Nyquist on.

    A shell of which nothing is seen has zero, too.
    """
    shell = shell_of_volume(sampling.shape[0], box)
    mean = shell_mean(sampling, shell, box // 2)
    lowest = np.append(np.where(mean > 0, floor * mean, np.inf), np.inf)[
        np.minimum(shell, box // 2)
    ]
    gain: NDArray[np.float32] = (1.0 / np.maximum(sampling, lowest)).astype(np.float32)
    return gain
