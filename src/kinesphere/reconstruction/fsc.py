"""Fourier shell correlation of two maps: plain, masked, corrected for the mask, and local."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from scipy import fft

from kinesphere.reconstruction.fourier_volume import shell_of_volume

GOLD_STANDARD = 0.143
_RANDOMISE_BELOW = 0.8
_SHELLS_BEYOND = 2
_THRESHOLD = 0.5
_WINDOW_PX = 5.0
_BAND_SHELLS = 3
_MOST_BANDS = 40


def fourier_shell_correlation(
    first: Float[np.ndarray, "n n n"], second: Float[np.ndarray, "n n n"]
) -> Float[np.ndarray, " shells"]:
    """Correlate two maps shell by shell: Re Σ F₁ F₂* / √(Σ|F₁|² Σ|F₂|²).

    Parameters
    ----------
    first, second
        (n, n, n) maps.

    Returns
    -------
    ndarray
        (n // 2,) for shells 0 … n/2 − 1, where shell s holds the frequencies that round to s cycles
        a box; 0 where a map has no power.
    """
    return _correlate(
        fft.rfftn(first.astype(np.float64)), fft.rfftn(second.astype(np.float64)), first.shape[0]
    )


def _correlate(
    first: Complex[np.ndarray, "n n half"], second: Complex[np.ndarray, "n n half"], box: int
) -> NDArray[np.float64]:
    shell = shell_of_volume(box, box)
    weight = np.full(first.shape[-1], 2.0)
    weight[0] = 1.0
    if box % 2 == 0:
        weight[-1] = 1.0

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        summed: NDArray[np.float64] = np.bincount(shell.ravel(), (values * weight).ravel())[
            : box // 2
        ].astype(float)
        return summed

    cross = total((first * second.conj()).real)
    power = total(np.abs(first) ** 2) * total(np.abs(second) ** 2)
    return cross / np.sqrt(np.maximum(power, np.finfo(float).tiny))


@dataclass(frozen=True, eq=False)
class FscCurves:
    """FSC of two half maps, every curve (n // 2,) for shells 0 … n/2 − 1.

    Parameters
    ----------
    field_of_view_angstrom
        Box × voxel: shell s is at the resolution field of view / s.
    unmasked, masked
        Of the maps as they are, and times the mask.
    randomised
        Masked, after the phases beyond `randomised_from` were replaced by random ones: what the
        mask alone gives.
    corrected
        (masked − randomised) / (1 − randomised) beyond `randomised_from` + 2, masked below.
    randomised_from
        First shell with random phases.
    """

    field_of_view_angstrom: float
    unmasked: Float[np.ndarray, " shells"]
    masked: Float[np.ndarray, " shells"]
    randomised: Float[np.ndarray, " shells"]
    corrected: Float[np.ndarray, " shells"]
    randomised_from: int

    @property
    def resolution_angstrom(self) -> float:
        """Resolution at which the corrected curve first falls below 0.143."""
        return crossing_angstrom(self.corrected, self.field_of_view_angstrom)


def half_map_fsc(
    first: Float[np.ndarray, "n n n"],
    second: Float[np.ndarray, "n n n"],
    mask: Float[np.ndarray, "n n n"],
    pixel_size_angstrom: float,
    seed: int = 0,
) -> FscCurves:
    """Compare two half maps, with the phase-randomised correction for the mask.

    Chen et al. (2013), Ultramicroscopy 135, 24–35, doi:10.1016/j.ultramic.2013.06.004. Phases are
    randomised from the shell at which the unmasked FSC falls below 0.8, RELION's choice.

    Parameters
    ----------
    first, second
        (n, n, n) half maps, not masked.
    mask
        (n, n, n) soft mask.
    pixel_size_angstrom
        Edge of a voxel.
    seed
        Of the random phases.

    Returns
    -------
    FscCurves
    """
    box = first.shape[0]
    unmasked = fourier_shell_correlation(first, second)
    masked = fourier_shell_correlation(first * mask, second * mask)
    start = _first_below(unmasked, _RANDOMISE_BELOW)
    rng = np.random.default_rng(seed)
    noise = [randomise_phases(half, start, rng) * mask for half in (first, second)]
    randomised = fourier_shell_correlation(*noise)
    beyond = np.arange(len(masked)) >= start + _SHELLS_BEYOND
    # a chance correlation at or above the masked one leaves nothing, whatever its sign
    ratio = (masked - randomised) / np.maximum(1.0 - randomised, 1e-6)
    corrected = np.where(beyond, np.where(randomised > masked, 0.0, ratio), masked)
    return FscCurves(box * pixel_size_angstrom, unmasked, masked, randomised, corrected, start)


def randomise_phases(
    density: Float[np.ndarray, "n n n"], first_shell: int, rng: np.random.Generator
) -> Float[np.ndarray, "n n n"]:
    """Replace the phases from a shell on by those of white noise, which keeps the map real and its
    amplitudes.
    """
    spectrum = fft.rfftn(density.astype(np.float64))
    noise = fft.rfftn(rng.standard_normal(density.shape))
    phase = noise / np.maximum(np.abs(noise), np.finfo(float).tiny)
    beyond = shell_of_volume(density.shape[0], density.shape[0]) >= first_shell
    spectrum[beyond] = (np.abs(spectrum) * phase)[beyond]
    values: NDArray[np.float64] = fft.irfftn(spectrum, s=density.shape)
    return values


def crossing_angstrom(
    curve: Float[np.ndarray, " shells"],
    field_of_view_angstrom: float,
    threshold: float = GOLD_STANDARD,
) -> float:
    """Resolution in Å at which a curve first falls below a threshold, interpolated between shells.

    Nyquist (of a curve of n/2 shells) where it never does; infinity where shell 1 is below already.
    """
    below = np.flatnonzero(curve[1:] < threshold)
    if below.size == 0:
        return field_of_view_angstrom / len(curve)
    shell = int(below[0]) + 1
    if shell == 1:
        return np.inf
    above, under = curve[shell - 1], curve[shell]
    return float(field_of_view_angstrom / (shell - 1 + (above - threshold) / (above - under)))


def mean_fsc(curve: Float[np.ndarray, " shells"]) -> float:
    """Mean of a curve of n/2 shells from shell 1 up to 0.9 of Nyquist; beyond, interpolation and
    the corners of the box have their say.
    """
    return float(curve[1 : round(0.9 * len(curve)) + 1].mean())


def _first_below(curve: NDArray[np.float64], threshold: float) -> int:
    """First shell (from 1) whose value is below a threshold; the number of shells where none is."""
    below = np.flatnonzero(curve[1:] < threshold)
    return int(below[0]) + 1 if below.size else len(curve)


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
    shell = shell_of_volume(box, box)
    window = _window(box)
    inside = mask > 0
    resolution = np.full(int(inside.sum()), field_of_view / (box // 2 - 1), dtype=np.float32)
    undecided = np.ones(len(resolution), dtype=bool)
    above = np.ones(len(resolution), dtype=np.float32)
    above_shell = 1
    for s in range(2, box // 2 - 1, -(-box // (2 * _MOST_BANDS))):
        band = np.abs(shell - s) <= _BAND_SHELLS // 2
        local = _local_correlation(spectra, band, window, box)[inside]
        falls = undecided & (local < _THRESHOLD)
        part = (above[falls] - _THRESHOLD) / np.maximum(above[falls] - local[falls], 1e-6)
        resolution[falls] = field_of_view / (above_shell + part * (s - above_shell))
        undecided &= ~falls
        if not undecided.any():
            break
        above = local
        above_shell = s
    result = np.zeros((box,) * 3, dtype=np.float32)
    result[inside] = resolution
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
