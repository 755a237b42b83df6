"""Conjugate gradients on a system whose solution is known, and what a prior does to amplitudes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from kinesphere.reconstruction.fourier_volume import shell_of_volume
from kinesphere.reconstruction.least_squares import (
    NormalEquations,
    ShellPrior,
    SolverState,
    restore_amplitudes,
    solve,
)

N = 12


class Dense(NormalEquations):
    """A x = b with a dense matrix, preconditioned by its diagonal."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        root = rng.standard_normal((N, N))
        self.matrix = root @ root.T + np.eye(N)
        self._right_side = rng.standard_normal(N)

    def apply(self, density: np.ndarray) -> np.ndarray:
        return self.matrix @ density

    def precondition(self, residual: np.ndarray) -> np.ndarray:
        return residual / np.diag(self.matrix)

    @property
    def exact(self) -> np.ndarray:
        return np.linalg.solve(self.matrix, self._right_side)


def test_as_many_iterations_as_unknowns_solve_the_system() -> None:
    equations = Dense()
    state = solve(equations, N)
    assert state.solution == pytest.approx(equations.exact, abs=1e-8)
    assert np.abs(state.residual).max() < 1e-8


def test_a_stopped_solver_goes_on_as_if_it_had_not() -> None:
    equations = Dense()
    seen: list[int] = []

    def note(state: SolverState) -> None:
        seen.append(state.iteration)

    stopped = solve(equations, 3, report=note)
    continued = solve(equations, 7, stopped, note)
    np.testing.assert_array_equal(continued.solution, solve(equations, 7).solution)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_amplitudes_are_restored_by_what_the_prior_left_of_them() -> None:
    box = 16
    rng = np.random.default_rng(3)
    density = rng.standard_normal((box,) * 3)
    shell = shell_of_volume(box, box)
    within = fft.irfftn(np.where(shell < box // 2, fft.rfftn(density), 0.0), s=density.shape)
    prior = ShellPrior(np.linspace(4.0, 1.0, box // 2), np.ones(box // 2))
    damped = fft.irfftn(
        fft.rfftn(within) * np.append(prior.wiener, 0.0)[np.minimum(shell, box // 2)],
        s=density.shape,
    )
    assert restore_amplitudes(damped, prior) == pytest.approx(within, abs=1e-5)
