"""Eq. 6 solved: conjugate gradients on the regularised normal equations, preconditioned by the
homogeneous filter.

For the density f on the voxels of a support, (Σ AᵢᵀΛᵢAᵢ + L) f = Σ AᵢᵀCᵢyᵢ/σ², where Aᵢ projects
along the motion of image i, Λ = CTF²/σ², and L is a filter: one over the power that the signal has
in each shell, the Wiener prior. That power is the map's own less its noise, which is known from the
sampling; so each half set is regularised by what it knows by itself. DynaMight stops at eq. 7,
which takes the operator as if nothing moved, and names this solve as what would be better. Without
motion the preconditioner is all but the inverse; with motion a few iterations do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from kinesphere.reconstruction.backprojection import HalfSums, Sweep
from kinesphere.reconstruction.fourier_volume import (
    crop_centre,
    homogeneous_filter,
    pad_centre,
    shell_mean,
    shell_of_volume,
)
from kinesphere.reconstruction.masks import automatic_mask
from kinesphere.reconstruction.support import Support

_SMALLEST_SNR = 0.1


@dataclass(frozen=True, eq=False)
class ShellPrior:
    """Signal and noise power of one unitary Fourier coefficient of the density on a support, shell
    by shell.

    Parameters
    ----------
    signal
        (n // 2,) prior variance.
    noise
        (n // 2,) variance of the backprojected map.
    """

    signal: Float[np.ndarray, " shells"]
    noise: Float[np.ndarray, " shells"]

    @classmethod
    def estimate(
        cls, density: Float[np.ndarray, "n n n"], sums: HalfSums, support: Support
    ) -> ShellPrior:
        """Estimate both from a backprojected map and the sampling it was divided by.

        The signal is what the map's power on the support has above the noise, taken to lie where
        the map itself shows a molecule. It is not taken to be below a tenth of the noise, so that
        shells without signal stay finite.
        """
        box = support.grid.box
        noise = shell_mean(
            homogeneous_filter(sums.volume.sampling(), box), shell_of_volume(2 * box, box), box // 2
        )
        spectrum = np.abs(scipy.fft.rfftn(density * support.inside)) ** 2
        power = shell_mean(spectrum, shell_of_volume(box, box), box // 2) / support.n_voxels
        molecule = (
            automatic_mask(density, support.grid.pixel_size_angstrom) > 0.5
        ) & support.inside
        fraction = max(int(molecule.sum()), 1) / support.n_voxels
        return cls(np.maximum((power - noise) / fraction, _SMALLEST_SNR * noise), noise)

    @property
    def wiener(self) -> Float[np.ndarray, " shells"]:
        """Signal / (signal + noise): what is left of a shell's amplitude after regularisation."""
        return self.signal / (self.signal + self.noise)


@dataclass(eq=False)
class SolverState:
    """Where conjugate gradients are: everything that the next iteration needs.

    Parameters
    ----------
    solution, residual, direction
        (n_voxels,) float64.
    energy
        Residual · preconditioned residual.
    iteration
        Iterations done.
    """

    solution: Float[np.ndarray, " voxels"]
    residual: Float[np.ndarray, " voxels"]
    direction: Float[np.ndarray, " voxels"]
    energy: float
    iteration: int = 0


class NormalEquations:
    """The regularised normal equations of one half set.

    Parameters
    ----------
    sweep
        The half set.
    sums
        Of all its images.
    prior
        Signal power.
    """

    def __init__(self, sweep: Sweep, sums: HalfSums, prior: ShellPrior) -> None:
        self._sweep = sweep
        self.support = sweep.projector.support
        self._right_side = sums.pulled
        box = self.support.grid.box
        shell = np.minimum(shell_of_volume(2 * box, box), box // 2)
        # beyond Nyquist nothing is seen; there the prior keeps the density from leaving the band
        precision = np.append(1.0 / prior.signal, 1.0 / prior.signal.min())[shell].astype(
            np.float32
        )
        self._precision = precision
        self._inverse = np.where(
            shell < box // 2, 1.0 / (sums.volume.sampling() + precision), 0.0
        ).astype(np.float32)

    def apply(self, density: Float[np.ndarray, " voxels"]) -> Float[np.ndarray, " voxels"]:
        """Σ AᵢᵀΛᵢAᵢ f + L f: one pass of all ranks over the geometry of the images, whose pixels
        are not needed.
        """
        projector = self._sweep.projector
        device = self._sweep.projector.device
        values = torch.from_numpy(density.astype(np.float32)).to(device)
        total = np.zeros_like(density)
        for rows, seen, n_rows in self._sweep.batches():
            if len(rows) > 0:
                precision, rotation = self._sweep.images.geometry(rows)
                views = self._sweep.views(rotation, seen)
                total += projector.normal(values, precision.to(device), views).cpu().numpy()
            self._sweep.advance(n_rows)
        self._sweep.ranks.sum_([torch.from_numpy(total)])
        return total + self._filter(density, self._precision)

    def precondition(self, residual: Float[np.ndarray, " voxels"]) -> Float[np.ndarray, " voxels"]:
        """Divide by sampling and prior in Fourier space: the inverse, up to the support's edge,
        without motion.
        """
        return self._filter(residual, self._inverse)

    def start(self) -> SolverState:
        """Begin at zero: the first iteration steps along the regularised filtered
        backprojection.
        """
        direction = self.precondition(self._right_side)
        return SolverState(
            np.zeros_like(self._right_side),
            self._right_side.copy(),
            direction,
            float(self._right_side @ direction),
        )

    def _filter(
        self, values: NDArray[np.float64], gain: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        size = gain.shape[0]
        spectrum = scipy.fft.rfftn(
            pad_centre(self.support.embed(values.astype(np.float32)), size),
            workers=torch.get_num_threads(),
        )
        spectrum *= gain
        filtered = scipy.fft.irfftn(
            spectrum, s=(size,) * 3, workers=torch.get_num_threads(), overwrite_x=True
        )
        return crop_centre(filtered, self.support.grid.box)[self.support.inside].astype(np.float64)


def solve(
    equations: NormalEquations,
    n_iterations: int,
    state: SolverState | None = None,
    report: Callable[[SolverState], None] = lambda _: None,
) -> SolverState:
    """Preconditioned conjugate gradients (Hestenes & Stiefel 1952), for a number of iterations.

    Parameters
    ----------
    equations
        The system.
    n_iterations
        Iterations in total, those of `state` counted; each is one pass over the images.
    state
        Where to go on.
    report
        Called after each iteration, for checkpoints.

    Returns
    -------
    SolverState
    """
    state = state or equations.start()
    while state.iteration < n_iterations and state.energy > 0.0:
        moved = equations.apply(state.direction)
        step = state.energy / float(state.direction @ moved)
        state.solution += step * state.direction
        state.residual -= step * moved
        preconditioned = equations.precondition(state.residual)
        energy = float(state.residual @ preconditioned)
        state.direction = preconditioned + (energy / state.energy) * state.direction
        state.energy = energy
        state.iteration += 1
        report(state)
    return state


def restore_amplitudes(
    density: Float[np.ndarray, "n n n"], prior: ShellPrior
) -> Float[np.ndarray, "n n n"]:
    """Undo, shell by shell, the mean damping of the prior, so that half maps carry unfiltered
    amplitudes.

    A factor common to a shell changes no FSC of the maps themselves. But sharpening would see the
    prior instead of the map, and where neighbouring shells differ much, a mask smears the strong
    ones over the weak.
    """
    box = density.shape[0]
    gain = np.append(1.0 / prior.wiener, 0.0)[np.minimum(shell_of_volume(box, box), box // 2)]
    restored: NDArray[np.float64] = scipy.fft.irfftn(
        scipy.fft.rfftn(density) * gain, s=density.shape
    )
    return restored.astype(np.float32)
