"""Local resolution: the FSC of two half maps within a window around every voxel."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import fft

from kinesphere.reconstruction.fourier_volume import shell_of_volume

_THRESHOLD = 0.5
_WINDOW_PX = 5.0
_BAND_SHELLS = 3
_MOST_BANDS = 40


def local_resolution(
    first: Float[np.ndarray, "n n n"],
    second: Float[np.ndarray, "n n n"],
    mask: Float[np.ndarray, "n n n"],
    pixel_size_angstrom: float,
) -> Float[np.ndarray, "n n n"]:
    """Estimate at each voxel the resolution up to which the half maps agree around it.

    For a band of three shells about shell s, both maps are band-passed and their local correlation
    is (g ∗ h₁h₂) / √((g ∗ h₁²)(g ∗ h₂²)), with g a Gaussian window of five voxels' standard
    deviation: by Parseval, the FSC of the windowed maps in that band. The resolution is where it
    first falls below 0.5. In a window that small, a lower threshold would be met by chance (Cardone
    et al. 2013, doi:10.1016/j.jsb.2013.08.002).

    Parameters
    ----------
    first, second
        (n, n, n) half maps, not masked.
    mask
        (n, n, n); where it is zero, so is the result.
    pixel_size_angstrom
        Edge of a voxel.

    Returns
    -------
    ndarray
        (n, n, n) float32 in Å.
    """
    box = first.shape[0]
    field_of_view = box * pixel_size_angstrom
    spectra = [fft.rfftn(half.astype(np.float32)) for half in (first, second)]
    shell, window = shell_of_volume(box, box), _window(box)
    inside = mask > 0
    found = np.full(int(inside.sum()), field_of_view / (box // 2 - 1), dtype=np.float32)
    undecided = np.ones(len(found), dtype=bool)
    above, above_shell = np.ones(len(found), dtype=np.float32), 1
    for s in range(2, box // 2 - 1, -(-box // (2 * _MOST_BANDS))):
        band = np.abs(shell - s) <= _BAND_SHELLS // 2
        local = _local_correlation(spectra, band, window, box)[inside]
        falls = undecided & (local < _THRESHOLD)
        part = (above[falls] - _THRESHOLD) / np.maximum(above[falls] - local[falls], 1e-6)
        found[falls] = field_of_view / (above_shell + part * (s - above_shell))
        undecided &= ~falls
        if not undecided.any():
            break
        above, above_shell = local, s
    result = np.zeros((box,) * 3, dtype=np.float32)
    result[inside] = found
    return result


def _local_correlation(
    spectra: list[NDArray[np.complex64]],
    band: NDArray[np.bool_],
    window: NDArray[np.float32],
    box: int,
) -> NDArray[np.float32]:
    one, two = (
        fft.irfftn(spectrum * band, s=(box,) * 3, workers=torch.get_num_threads())
        for spectrum in spectra
    )
    cross, first, second = (
        fft.irfftn(
            fft.rfftn(product, workers=torch.get_num_threads()) * window,
            s=(box,) * 3,
            workers=torch.get_num_threads(),
        )
        for product in (one * two, one * one, two * two)
    )
    # far from all density both windows are empty, up to rounding of the transforms
    floor = 1e-6 * np.sqrt(first.max() * second.max())
    correlation: NDArray[np.float32] = cross / np.sqrt(
        np.maximum(first, floor) * np.maximum(second, floor)
    )
    return correlation


def _window(box: int) -> NDArray[np.float32]:
    """Transform of the Gaussian window."""
    squared = (
        fft.fftfreq(box)[:, None, None] ** 2
        + fft.fftfreq(box)[:, None] ** 2
        + fft.rfftfreq(box) ** 2
    )
    window: NDArray[np.float32] = np.exp(-2.0 * (np.pi * _WINDOW_PX) ** 2 * squared).astype(
        np.float32
    )
    return window
