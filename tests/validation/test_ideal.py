"""The ideal observer against posteriors worked out by other means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from kinesphere.fourier import centred_irfft2, centred_rfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters, evaluate_ctf
from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.gaussians import RenderGrid, render_exact
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.imaging.pose import project_points
from kinesphere.inference.observations import Observations
from kinesphere.io.mrc import read_map
from kinesphere.io.structure import read_model
from kinesphere.particles import ParticleSet
from kinesphere.validation.ideal import carry_along, fit_signal, state_posterior
from kinesphere.validation.metrics import pearson
from kinesphere.validation.observer import choose_images, observe_ideally
from kinesphere.validation.truth import read_truth

BOX, PIXEL, WIDTH = 16, 4.0, 3.0


@dataclass(frozen=True)
class Toy:
    """Images of states in known poses under white noise of known power, and the model images without noise."""

    observations: Observations
    forward: ForwardModel
    signal: SignalAndNoise
    states: torch.Tensor
    state: torch.Tensor
    clean: torch.Tensor


def optics(n: int) -> CtfParameters:
    values = (12000.0, 11000.0, 0.4, 0.0, 300.0, 2.7, 0.1, 0.0, 1.0)
    return CtfParameters(*(torch.full((n,), value) for value in values))


def make_toy(n: int, n_states: int, rotation: np.ndarray, separation: float, noise_std: float, seed: int) -> Toy:
    generator = torch.Generator().manual_seed(seed)
    start = 8.0 * torch.randn(12, 3, generator=generator)
    step = separation * torch.randn(12, 3, generator=generator)
    states = start + torch.arange(n_states)[:, None, None] * step
    state = torch.randint(n_states, (n,), generator=generator)
    grid, amplitude = RenderGrid(BOX, PIXEL), torch.full((12,), 20.0)
    pose = torch.from_numpy(rotation).float().expand(n, 3, 3)
    clean = render_exact(project_points(states[state], pose), amplitude, WIDTH, grid) * evaluate_ctf(
        optics(n), BOX, PIXEL
    )
    images = centred_irfft2(clean, BOX) + noise_std * torch.randn(n, BOX, BOX, generator=generator)
    band = FourierBand.of_grid(grid)
    variance = torch.full((1, band.n_shells + 1), (noise_std * BOX) ** 2)
    return Toy(
        Observations(band.select(centred_rfft2(images)), pose, optics(n), torch.zeros(n, dtype=torch.int64), band),
        ForwardModel(band, amplitude, WIDTH),
        SignalAndNoise(torch.ones_like(variance), variance),
        states,
        state,
        clean,
    )


def test_posterior_is_bayes_theorem_with_exact_images() -> None:
    n, n_states, noise_std = 40, 5, 4.0
    rotation = Rotation.random(n, random_state=1).as_matrix()
    toy = make_toy(n, n_states, rotation, 0.7, noise_std, seed=2)
    prior = np.array([0.1, 0.4, 0.2, 0.3, 0.0])
    posterior = state_posterior(toy.observations, toy.forward, toy.signal, toy.states, prior)
    pose, ctf = toy.observations.rotation, evaluate_ctf(optics(n), BOX, PIXEL)
    amplitude, grid, band = torch.full((12,), 20.0), RenderGrid(BOX, PIXEL), toy.observations.band
    score = np.empty((n, n_states))
    for k in range(n_states):
        model = render_exact(project_points(toy.states[k].expand(n, -1, -1), pose), amplitude, WIDTH, grid) * ctf
        residual = (toy.observations.data - band.select(model)).abs() ** 2
        score[:, k] = -0.5 * (residual * band.multiplicity).double().sum(1).numpy() / (noise_std * BOX) ** 2
    expected = prior * np.exp(score - score.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    assert 0.3 < np.median(expected.max(1)) < 0.95  # neither certain nor clueless
    assert posterior == pytest.approx(expected, abs=5e-3)
    assert not posterior[:, 4].any()


def test_correlation_of_two_states_is_what_signal_detection_theory_says() -> None:
    """Log odds are N(±d²/2, d²), and r² of the posterior mean is the mean of tanh² of half of them."""
    n, noise_std = 6000, 3.0
    toy = make_toy(n, 2, np.eye(3), 0.8, noise_std, seed=3)
    posterior = state_posterior(toy.observations, toy.forward, toy.signal, toy.states, np.full(2, 0.5))
    first, second = (toy.observations.band.select(toy.clean[toy.state == k][0]) for k in (0, 1))
    power = ((first - second).abs() ** 2 * toy.observations.band.multiplicity).sum()
    d = float(power.sqrt()) / (noise_std * BOX)
    assert 0.5 < d < 3.0

    def density(odds: float) -> float:
        return math.exp(-0.5 * ((odds - d * d / 2) / d) ** 2) / (d * math.sqrt(2 * math.pi))

    squared, _ = quad(lambda odds: density(odds) * math.tanh(odds / 2) ** 2, -30, 30)
    sign = 2.0 * toy.state.numpy() - 1.0
    odds = sign * (np.log(posterior[:, 1]) - np.log(posterior[:, 0]))
    assert odds.mean() == pytest.approx(d * d / 2, rel=0.05)
    assert odds.std() == pytest.approx(d, rel=0.05)
    assert pearson(posterior[:, 1], toy.state.numpy().astype(float)) == pytest.approx(math.sqrt(squared), abs=0.02)


def test_signal_and_noise_are_found_from_the_true_states() -> None:
    n, noise_std = 400, 2.0
    toy = make_toy(n, 3, Rotation.random(n, random_state=2).as_matrix(), 1.0, noise_std, seed=4)
    half_as_bright = ForwardModel(toy.observations.band, torch.full((12,), 10.0), WIDTH)
    signal = fit_signal(toy.observations, half_as_bright, toy.states, toy.state)
    assert signal.scale[0, 1:4].numpy() == pytest.approx(np.full(3, 2.0), rel=0.05)
    assert signal.variance[0, 1:].numpy() == pytest.approx(np.full(BOX // 2 - 1, (noise_std * BOX) ** 2), rel=0.1)


def test_atoms_turn_with_their_residues() -> None:
    rng = np.random.default_rng(6)
    nominal = np.cumsum(rng.normal(0.0, 2.2, (60, 3)), axis=0)
    owner = np.repeat(np.arange(60), 4)
    atoms = nominal[owner] + rng.normal(0.0, 1.5, (240, 3))
    turn, shift = Rotation.from_rotvec([0.3, -1.0, 0.6]), np.array([4.0, -2.0, 9.0])
    states = np.stack([nominal, turn.apply(nominal) + shift])
    moved = carry_along(atoms, owner, nominal, states)
    assert moved[0] == pytest.approx(atoms, abs=1e-4)
    assert moved[1] == pytest.approx(turn.apply(atoms) + shift, abs=1e-4)


def test_a_lone_residue_takes_its_atoms_along_unturned() -> None:
    atoms = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    moved = carry_along(atoms, np.zeros(2, int), np.zeros((1, 3)), np.array([[[3.0, 0.0, 0.0]]]))
    assert moved[0] == pytest.approx(atoms + np.array([3.0, 0.0, 0.0]))


def test_images_are_chosen_evenly_and_within_the_budget() -> None:
    assert choose_images(4000, 100, None).tolist() == list(range(4000))
    assert len(choose_images(20000, 100, None)) == 4000
    assert len(choose_images(20000, 10**6, None)) == 200
    assert choose_images(10, 5, 4).tolist() == [0, 2, 5, 7]


@pytest.mark.parametrize(("placement", "lowest"), [("centroid", 0.98), ("centre", 0.97)])
def test_ideal_observer_of_images_by_another_program(
    placement: str, lowest: float, shared_data: Callable[[str], Path], given_run: Callable[..., Any]
) -> None:
    folder = shared_data("adk")
    model, truth = read_model(folder / "model.pdb"), read_truth(folder / "truth.npz")
    centre = read_map(folder / "consensus.mrc").centre_angstrom
    run = given_run(model, ParticleSet.read(folder / "particles.star"), centre)
    shared, rows = truth.match(model)
    ideal = observe_ideally(run, shared, rows, choose_images(4000, 98, 150), placement)
    expected = ideal.expect(truth.state_coordinate)[:, 0]
    assert ideal.posterior.sum(1) == pytest.approx(np.ones(150))
    assert lowest < pearson(expected, truth.coordinate[ideal.images, 0]) < 0.995
    assert np.median(ideal.rmsd(shared)) < 0.6  # the nominal model is 4.8 Å off
