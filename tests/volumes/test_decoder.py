"""The volume decoder: finds states of a known ensemble, gains nothing from shuffled latents, stays
in its band."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import moving_run as helper
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.scattering import potential_map
from kinesphere.volumes.decoder import (
    CoefficientNetwork,
    DecoderSettings,
    VolumeDecoder,
    enlarge,
    n_readings,
    train_decoder,
)

SETTINGS = DecoderSettings(box=24, rounds=2, steps=200)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Images of one half set, their rows, and the states they show."""
    folder = tmp_path_factory.mktemp("data")
    run = helper.KnownRun(helper.simulate(folder, 800, 0.3), folder)
    posed = pose_problem(run, ReconstructionSettings(homogeneous=True))
    rows = posed.rows(1)
    images = WeightedImages(
        posed.particles, posed.loader, noise_power(posed.particles, posed.loader, rows, 64)
    )
    return images, rows, run.latents.mean[rows]


@pytest.fixture(scope="module")
def trained(known: Any) -> VolumeDecoder:
    images, rows, state = known
    return train_decoder(images, rows, state, SETTINGS)


def test_differences_are_those_of_the_true_states(known: Any, trained: VolumeDecoder) -> None:
    _, _, state = known
    ensemble = adenylate_kinase(helper.N_STATES).centred()
    maps = [
        potential_map(
            positions, ensemble.model.atomic_number, helper.BOX, helper.PIXEL_ANGSTROM, 60.0
        )
        for positions in ensemble.positions
    ]
    mean = np.mean([maps[int(s)] for s in state[:, 0]], axis=0)
    low = trained.components.consensus.shape[0]
    for end in (0, helper.N_STATES - 1):
        true = _low_pass(maps[end] - mean, low)
        found = trained.difference([float(end)])
        assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.7


def test_unseen_images_gain_from_states_and_not_from_shuffled_ones(
    known: Any, trained: VolumeDecoder
) -> None:
    images, rows, state = known
    assert trained.gain > 4 * trained.gain_error
    shuffled = np.random.default_rng(0).permutation(state)
    nothing = train_decoder(images, rows, shuffled, SETTINGS)
    assert nothing.gain < 2 * nothing.gain_error


def test_readings_are_counted(known: Any) -> None:
    images, rows, state = known
    counted = []
    train_decoder(images, rows[:200], state[:200], SETTINGS, advance=counted.append)
    assert sum(counted) == n_readings(200, SETTINGS)


def test_nothing_lies_beyond_the_band_of_the_small_box(trained: VolumeDecoder) -> None:
    difference = trained.difference([1.0])
    assert difference.shape == (helper.BOX,) * 3
    power = np.abs(np.fft.fftn(difference)) ** 2
    axis = np.abs(np.fft.fftfreq(helper.BOX) * helper.BOX)
    beyond = np.max(np.meshgrid(axis, axis, axis, indexing="ij"), axis=0) >= SETTINGS.box / 2
    assert power[beyond].max() < 1e-6 * power.max()


def test_a_decoder_comes_back_from_disk_unless_it_was_of_something_else(
    tmp_path: Path, known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, rows, state = known
    default = DecoderSettings(box=24, rounds=1, steps=20)
    monkeypatch.setattr("kinesphere.volumes.decoder.DecoderSettings", lambda: default)
    decoder = train_decoder(images, rows[:200], state[:200], default)
    decoder.save(tmp_path, "half1", "this run")
    again = VolumeDecoder.find(tmp_path, "half1", "this run")
    assert again is not None
    assert (again.gain, again.gain_error, again.box) == (
        decoder.gain,
        decoder.gain_error,
        decoder.box,
    )
    np.testing.assert_array_equal(again.difference([2.0]), decoder.difference([2.0]))
    assert VolumeDecoder.find(tmp_path, "half1", "another run") is None
    assert VolumeDecoder.find(tmp_path, "half2", "this run") is None


@pytest.mark.parametrize("d", [1, 2, 5])
def test_coefficients_are_white_and_bounded_beyond_what_was_seen(d: int) -> None:
    z = np.random.default_rng(d).normal(3.0, 2.0, (3000, d)).astype(np.float32)
    network = CoefficientNetwork(z, 4, 16, seed=0)
    with torch.no_grad():
        c = network(torch.from_numpy(z)).numpy()
        far = network(torch.full((1, d), 100.0)).numpy()
        farther = network(torch.full((1, d), 1000.0)).numpy()
    np.testing.assert_allclose(c.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(c.T), np.eye(4), atol=5e-3)
    np.testing.assert_array_equal(far, farther)


def test_latents_that_are_all_alike_have_no_coefficients() -> None:
    network = CoefficientNetwork(np.full((100, 2), 0.7, dtype=np.float32), 4, 16, seed=0)
    with torch.no_grad():
        assert network(torch.tensor([[0.7, 0.7]])).abs().max() < 1e-3


def test_a_map_on_a_larger_box_keeps_its_coefficients_and_its_centre() -> None:
    small = np.zeros((16,) * 3, dtype=np.float32)
    small[8, 8, 8] = 1.0
    large = enlarge(small, 40)
    assert np.unravel_index(large.argmax(), large.shape) == (20, 20, 20)
    spectra = [np.fft.fftn(np.fft.ifftshift(x)) for x in (small, large)]
    for k in ((0, 0, 0), (1, -2, 3), (-7, 7, 5)):
        assert spectra[1][k] == pytest.approx(spectra[0][k], abs=1e-4)


def _low_pass(density: np.ndarray, small: int) -> np.ndarray:
    spectrum = np.fft.fftn(density)
    axis = np.abs(np.fft.fftfreq(density.shape[0]) * density.shape[0])
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    filtered: np.ndarray = np.fft.ifftn(spectrum * (radius < small / 2)).real
    return filtered
