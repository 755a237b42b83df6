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

from kinesphere.errors import InputError
from kinesphere.evaluation.ideal import (
    BoxedImages,
    BoxedModel,
    BoxedSignal,
    carry_along,
    fit_signal,
    state_posterior,
)
from kinesphere.evaluation.metrics import pearson
from kinesphere.evaluation.observer import choose_images, observe_ideally
from kinesphere.evaluation.truth import read_truth
from kinesphere.fourier import centred_irfft2, centred_rfft2
from kinesphere.imaging.ctf import CtfParameters, evaluate_ctf
from kinesphere.imaging.forward import ForwardModel, recentre
from kinesphere.imaging.gaussians import RenderGrid, render_exact
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.imaging.pose import project_points
from kinesphere.inference.likelihood import Likelihood
from kinesphere.inference.objective import GaussianLikelihood
from kinesphere.io.mrc import read_map
from kinesphere.io.structure import read_model
from kinesphere.observations.observations import Observations
from kinesphere.particles import ParticleSet

BOX, PIXEL, WIDTH, BRIGHTNESS = 24, 4.0, 3.0, 20.0


@dataclass(frozen=True)
class Toy:
    """Images of states under white noise of known power, cut out of wider images; `clean` is that
    of every state."""

    boxed: BoxedImages
    model: BoxedModel
    signal: BoxedSignal
    states: torch.Tensor
    state: torch.Tensor
    clean: torch.Tensor
    noise_std: float

    def exact_posterior(self, prior: np.ndarray) -> np.ndarray:
        """Bayes' theorem, pixel by pixel, (n, n_states)."""
        residual = (self.boxed.images - self.clean).double()
        score = (-0.5 * (residual**2).sum((2, 3)) / self.noise_std**2).T.numpy()
        posterior = prior * np.exp(score - score.max(1, keepdims=True))
        return posterior / posterior.sum(1, keepdims=True)


def optics(n: int, defocus_angstrom: float) -> CtfParameters:
    values = (defocus_angstrom, 0.9 * defocus_angstrom, 0.4, 0.0, 300.0, 2.7, 0.1, 0.0, 1.0)
    return CtfParameters(*(torch.full((n,), value) for value in values))


def see_exactly(points: torch.Tensor, shift: torch.Tensor, ctf: CtfParameters) -> torch.Tensor:
    """Images of projected points, by the separable sum in a box four times as wide."""
    wide, amplitude = 4 * BOX, torch.full((points.shape[1],), BRIGHTNESS)
    transform = render_exact(points + shift[:, None], amplitude, WIDTH, RenderGrid(wide, PIXEL))
    image = centred_irfft2(transform * evaluate_ctf(ctf, wide, PIXEL), wide)
    inside = slice(wide // 2 - BOX // 2, wide // 2 + BOX // 2)
    return image[:, inside, inside]


def make_toy(
    n: int, n_states: int, *, separation: float, noise_std: float, defocus: float, one_pose: bool
) -> Toy:
    generator = torch.Generator().manual_seed(n + n_states)
    start = 8.0 * torch.randn(12, 3, generator=generator)
    step = separation * torch.randn(12, 3, generator=generator)
    states = start + torch.arange(n_states)[:, None, None] * step
    state = torch.randint(n_states, (n,), generator=generator)
    poses = (
        np.eye(3)[None].repeat(n, 0) if one_pose else Rotation.random(n, random_state=1).as_matrix()
    )
    pose, ctf = torch.from_numpy(poses).float(), optics(n, defocus)
    shift = torch.zeros(n, 2) if one_pose else 5.0 * torch.randn(n, 2, generator=generator)
    m = 1 if one_pose else n  # different images
    clean = torch.stack(
        [
            see_exactly(project_points(s.expand(m, -1, -1), pose[:m]), shift[:m], ctf[:m])
            for s in states
        ]
    ).expand(-1, n, -1, -1)
    images = clean[state, torch.arange(n)] + noise_std * torch.randn(
        n, BOX, BOX, generator=generator
    )
    grid = RenderGrid(BOX, PIXEL)
    model = BoxedModel(grid, BOX // 2 - 1, torch.full((12,), BRIGHTNESS), WIDTH)
    boxed = BoxedImages(images, shift, pose, ctf, torch.zeros(n, dtype=torch.int64), grid)
    signal = fit_signal(boxed, model, states, state)
    return Toy(boxed, model, signal, states, state, clean, noise_std)


def test_posterior_is_bayes_theorem_with_exact_images() -> None:
    toy = make_toy(300, 5, separation=0.7, noise_std=3.0, defocus=9000.0, one_pose=False)
    prior = np.array([0.1, 0.4, 0.2, 0.3, 0.0])
    posterior = state_posterior(toy.boxed, toy.model, toy.signal, toy.states, prior)
    expected = toy.exact_posterior(prior)
    assert 0.5 < np.median(expected.max(1)) < 0.95  # neither certain nor clueless
    assert np.abs(posterior - expected).mean() < 0.02
    assert not posterior[:, 4].any()


def test_what_leaves_the_box_is_lost_and_does_not_come_back_on_the_other_side() -> None:
    toy = make_toy(300, 4, separation=0.6, noise_std=1.0, defocus=40000.0, one_pose=False)
    prior = np.full(4, 0.25)
    expected = toy.exact_posterior(prior)
    boxed = state_posterior(toy.boxed, toy.model, toy.signal, toy.states, prior)
    periodic = periodic_posterior(toy)
    assert np.abs(boxed - expected).mean() < 0.4 * np.abs(periodic - expected).mean()


def periodic_posterior(toy: Toy) -> np.ndarray:
    """Posterior under the likelihood that training uses, with a flat prior."""
    boxed, band = toy.boxed, toy.model.band
    data = recentre(band.select(centred_rfft2(boxed.images)), boxed.shift_angstrom, band)
    observations = Observations(data, boxed.rotation, boxed.ctf, boxed.group, band)
    variance = torch.full((1, band.n_shells + 1), (toy.noise_std * BOX) ** 2)
    forward = ForwardModel(band, torch.full((12,), BRIGHTNESS), WIDTH)
    likelihood = Likelihood(
        forward, GaussianLikelihood(), SignalAndNoise(torch.ones_like(variance), variance)
    )
    prepared = likelihood.prepare(observations.batch(torch.arange(len(boxed))))
    return torch.softmax(likelihood.all_states(prepared, toy.states), 1).numpy()


def test_correlation_of_two_states_is_what_signal_detection_theory_says() -> None:
    """Log odds are N(±d²/2, d²), and r² of the posterior mean is the mean of tanh² of half of
    them."""
    toy = make_toy(3000, 2, separation=0.8, noise_std=2.5, defocus=9000.0, one_pose=True)
    posterior = state_posterior(toy.boxed, toy.model, toy.signal, toy.states, np.full(2, 0.5))
    d = float((toy.clean[0, 0] - toy.clean[1, 0]).norm()) / toy.noise_std
    assert 0.5 < d < 3.0

    def density(odds: float) -> float:
        return math.exp(-0.5 * ((odds - d * d / 2) / d) ** 2) / (d * math.sqrt(2 * math.pi))

    squared, _ = quad(lambda odds: density(odds) * math.tanh(odds / 2) ** 2, -30, 30)
    sign = 2.0 * toy.state.numpy() - 1.0
    odds = sign * (np.log(posterior[:, 1]) - np.log(posterior[:, 0]))
    assert odds.mean() == pytest.approx(d * d / 2, rel=0.08)
    assert odds.std() == pytest.approx(d, rel=0.08)
    assert pearson(posterior[:, 1], toy.state.numpy().astype(float)) == pytest.approx(
        math.sqrt(squared), abs=0.02
    )


def test_signal_and_noise_are_found_from_the_true_states() -> None:
    toy = make_toy(400, 3, separation=1.0, noise_std=0.3, defocus=9000.0, one_pose=False)
    half_as_bright = BoxedModel(
        toy.boxed.grid, BOX // 2 - 1, torch.full((12,), 0.5 * BRIGHTNESS), WIDTH
    )
    signal = fit_signal(toy.boxed, half_as_bright, toy.states, toy.state)
    assert signal.scale[0, 4:12].numpy() == pytest.approx(np.full(8, 2.0), rel=0.1)
    assert signal.variance[0, 1:].numpy() == pytest.approx(
        np.full(BOX // 2 - 1, (0.3 * BOX) ** 2), rel=0.1
    )
    assert 0.3 < signal.kept[0, 4:12].min() <= signal.kept.max() <= 1.0


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
    assert choose_images(4000, 100, 24).tolist() == list(range(4000))
    assert len(choose_images(20000, 100, 24)) == 4000
    assert len(choose_images(20000, 100, 64)) == 1000
    assert len(choose_images(20000, 10**6, 24)) == 200
    assert choose_images(10, 5, 24, 4).tolist() == [0, 2, 5, 7]
    with pytest.raises(InputError, match="--ideal-images"):
        choose_images(10, 5, 24, 1)


@pytest.mark.parametrize(("placement", "lowest"), [(None, 0.98), ("centre", 0.97)])
def test_ideal_observer_of_images_by_another_program(
    placement: Any, lowest: float, shared_data: Callable[[str], Path], given_run: Callable[..., Any]
) -> None:
    folder = shared_data("adk")
    model, truth = read_model(folder / "model.pdb"), read_truth(folder / "truth.npz")
    centre = read_map(folder / "consensus.mrc").centre_angstrom
    run = given_run(model, ParticleSet.read(folder / "particles.star"), centre)
    shared, rows = truth.match(model)
    ideal = observe_ideally(run, shared, rows, 60, placement)
    expected = ideal.expect(truth.state_coordinate)[:, 0]
    assert ideal.posterior.sum(1) == pytest.approx(np.ones(60))
    assert lowest < pearson(expected, truth.coordinate[ideal.images, 0]) < 0.997
    assert np.median(ideal.rmsd(shared)) < 0.6  # the nominal model is 4.8 Å off
