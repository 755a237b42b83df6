"""An atomic model carried along by a run's motion, and the state of the motion that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import ndimage, optimize
from torch import Tensor

from kinesphere.inference.decoder import Decoder
from kinesphere.io.structure import AtomicModel
from kinesphere.motion.base import Motion
from kinesphere.motion.inverse import invert

_RESOLUTION_ANGSTROM = 8.0
_STEP_ANGSTROM = 2.5
_MARGIN_ANGSTROM = 10.0
_CANDIDATES = 96
_STARTS = 3
_INSIDE_LEVEL = 0.05


@dataclass(frozen=True)
class State:
    """The state of a motion that a model shows.

    Parameters
    ----------
    z
        (d,) latent position.
    correlation, at_rest
        Of the densities of model and pseudo-atoms, where the model is: in that state, and in the
        reference.
    residual_angstrom
        Largest distance by which the inverse motion misses an atom.
    """

    z: NDArray[np.float64]
    correlation: float
    at_rest: float
    residual_angstrom: float


@dataclass(frozen=True)
class CarriedModel:
    """An atomic model that moves with the motion of a run.

    Parameters
    ----------
    model
        The atoms as the user gave them.
    atoms
        By half set (0 where there is one model): (n_atoms, 3) their places in its reference state
        in Å, box centre at zero.
    owner
        (n_atoms,) the reference point each moves with, for motions that ask.
    states
        By half set: the state in which the model was found; empty where it is in the reference
        state by definition.
    """

    model: AtomicModel
    atoms: Mapping[int, Float[Tensor, "a 3"]]
    owner: Int[Tensor, " a"]
    states: Mapping[int, State]

    def report(self) -> list[str]:
        """Say in which state of each half-set model the atoms were found, and how well they fit
        there.
        """
        return [
            f"Half set {half}: the model shows the state at z = "
            f"({', '.join(f'{value:.2f}' for value in state.z)}), "
            f"density correlation {state.correlation:.3f} ({state.at_rest:.3f} in the "
            "reference state); "
            f"the inverse motion misses atoms by up to {state.residual_angstrom:.2f} Å"
            for half, state in self.states.items()
        ]


def model_beads(
    model: AtomicModel, centre_angstrom: NDArray[np.floating]
) -> tuple[Float[np.ndarray, "a 3"], Float[np.ndarray, " a"]]:
    """Positions (box centre at zero) and electrons of a model's atoms."""
    return model.positions_angstrom - centre_angstrom, model.electrons


def find_state(
    decoder: Decoder,
    candidates: Float[np.ndarray, "k d"],
    model: AtomicModel,
    centre_angstrom: NDArray[np.floating],
) -> tuple[Float[Tensor, "a 3"], State]:
    """Find the state that a model shows, and pull its atoms back to the reference.

    Parameters
    ----------
    decoder
        A trained field and its pseudo-atoms.
    candidates
        (k, d) latent positions that occur in the data.
    model
        Atomic model in the frame of the map.
    centre_angstrom
        (3,) the box centre in that frame.

    Returns
    -------
    tuple
        (n_atoms, 3) places in the reference state in Å, and the state.
    """
    motion = decoder.motion
    amplitude = decoder.amplitude.detach().double().numpy()
    positions, electrons = model_beads(model, centre_angstrom)
    match = _Match(positions, electrons, motion, amplitude)
    chosen = candidates[
        np.unique(np.linspace(0, len(candidates) - 1, _CANDIDATES).round().astype(int))
    ]
    scores = match.scores(chosen)
    starts = chosen[np.argsort(-scores)[:_STARTS]]
    limit = 1.1 * np.abs(candidates).max(axis=0) + 1e-3
    found = [_climb(match, start, limit) for start in starts]
    best = max(found, key=match)
    latent = torch.as_tensor(best, dtype=motion.reference.dtype)
    preimage = invert(motion, latent, torch.as_tensor(positions, dtype=motion.reference.dtype))
    state = State(best, match(best), match.at_rest(), float(preimage.residual.max()))
    return preimage.points, state


def _climb(
    match: _Match, start: NDArray[np.float64], limit: NDArray[np.float64]
) -> NDArray[np.float64]:
    result = optimize.minimize(
        lambda z: -match(z),
        start,
        method="Nelder-Mead",
        bounds=list(zip(-limit, limit, strict=True)),
        options={"maxfev": 60 * len(start), "xatol": 1e-3, "fatol": 1e-7},
    )
    return np.asarray(result.x, dtype=np.float64)


class _Match:
    """Correlation of the model's density with that of a decoded state, inside the model."""

    def __init__(
        self,
        positions: NDArray[np.float64],
        weights: NDArray[np.float64],
        motion: Motion,
        amplitude: NDArray[np.float64],
    ) -> None:
        self.motion = motion
        self.amplitude = amplitude
        self.corner = positions.min(0) - _MARGIN_ANGSTROM
        span = positions.max(0) + _MARGIN_ANGSTROM - self.corner
        self.shape = tuple(int(n) for n in np.ceil(span / _STEP_ANGSTROM).astype(int) + 1)
        density = self._density(positions, weights)
        self.inside = density > _INSIDE_LEVEL * density.max()
        self.target = density[self.inside]

    def __call__(self, z: NDArray[np.float64]) -> float:
        return float(self.scores(np.asarray(z)[None])[0])

    def at_rest(self) -> float:
        """Correlation with the reference state."""
        return self._score(self.motion.reference.detach().double().numpy())

    @torch.no_grad()
    def scores(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Correlation at each of some latent positions."""
        moved = self.motion(torch.as_tensor(z, dtype=self.motion.reference.dtype)).double().numpy()
        return np.array([self._score(positions) for positions in moved])

    def _score(self, positions: NDArray[np.float64]) -> float:
        density = self._density(positions, self.amplitude)[self.inside]
        # about zero, not about the mean: density that left the model's place has to count against
        # the state
        return float(
            density
            @ self.target
            / np.sqrt((density @ density) * (self.target @ self.target) + 1e-30)
        )

    def _density(
        self, positions: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Trilinear spreading, then a Gaussian of the resolution's width."""
        place = (positions - self.corner) / _STEP_ANGSTROM
        first = np.floor(place).astype(int)
        grid = np.zeros(self.shape)
        for corner in np.ndindex(2, 2, 2):
            cell = first + corner
            share = np.prod(
                np.where(np.array(corner) == 1, place - first, 1.0 - place + first), axis=1
            )
            kept = ((cell >= 0) & (cell < self.shape)).all(1)
            np.add.at(grid, tuple(cell[kept].T), (weights * share)[kept])
        blurred: NDArray[np.float64] = ndimage.gaussian_filter(
            grid, 0.25 * _RESOLUTION_ANGSTROM / _STEP_ANGSTROM
        )
        return blurred
