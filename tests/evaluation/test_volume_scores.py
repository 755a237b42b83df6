"""FSC areas of structures: CryoBench's definition, worked out the slow way, and cases whose answer
is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import fft

from kinesphere.evaluation.observer import IdealObserver
from kinesphere.evaluation.truth import Truth
from kinesphere.evaluation.volume_scores import (
    VolumeComparison,
    area_under_fsc,
    fsc_scores,
    residue_volume,
    shell_correlation,
)
from kinesphere.simulate.ensembles import Ensemble

BOX = 32


def cryobench_area(first: np.ndarray, second: np.ndarray) -> float:
    """Follow CryoBench's description: whole transforms, one shell after the other, the trapezoidal
    rule."""
    box = len(first)
    one, other = (fft.fftshift(fft.fftn(volume)) for volume in (first, second))
    place = np.arange(-box // 2, box // 2)
    distance = np.sqrt(
        place[:, None, None] ** 2 + place[None, :, None] ** 2 + place[None, None, :] ** 2
    )
    curve, frequency = [1.0], [0.0]
    for shell in range(1, box // 2):
        inside = (distance < shell) & (distance >= shell - 1)
        a, b = one[inside], other[inside]
        curve.append(abs((np.vdot(a, b) / np.sqrt(np.vdot(a, a) * np.vdot(b, b))).real))
        frequency.append(shell / box)
    return sum(
        0.5 * (curve[i] + curve[i + 1]) * (frequency[i + 1] - frequency[i])
        for i in range(len(curve) - 1)
    )


def test_areas_are_cryobenchs_on_any_volumes() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 16, 16, 16))
    second += 0.7 * first
    curve = shell_correlation(fft.rfftn(first), fft.rfftn(second))
    assert area_under_fsc(curve, 16) == pytest.approx(cryobench_area(first, second), abs=1e-12)


def test_a_volume_and_itself_fill_all_there_is() -> None:
    volume = fft.rfftn(np.random.default_rng(1).normal(size=(16, 16, 16)))
    assert area_under_fsc(shell_correlation(volume, volume), 16) == pytest.approx(7 / 16)
    # contrast does not count: |FSC|
    assert area_under_fsc(shell_correlation(volume, -volume), 16) == pytest.approx(7 / 16)


def test_a_shift_costs_the_mean_of_its_phases() -> None:
    place = np.random.default_rng(2).uniform(8, 24, (400, 3))
    weight = np.ones(400)
    still, moved = (
        residue_volume(place, weight, BOX),
        residue_volume(place + np.eye(3)[0], weight, BOX),
    )
    curve = shell_correlation(still, moved)
    # the mean of cos(2π q·x) over a shell is sin(2πq)/(2πq); shell s spans s − 1 to s
    frequency = (np.arange(1, BOX // 2) - 0.5) / BOX
    assert curve[4:] == pytest.approx(np.sinc(2 * frequency)[3:], abs=0.12)


def test_the_width_of_the_gaussians_drops_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    place, weight = rng.uniform(8, 24, (50, 3)), rng.uniform(5, 9, 50)
    moved = place + rng.normal(0, 0.5, place.shape)

    def area() -> float:
        volumes = [residue_volume(p, weight, BOX) for p in (place, moved)]
        return area_under_fsc(shell_correlation(*volumes), BOX)

    narrow = area()
    monkeypatch.setattr("kinesphere.evaluation.volume_scores._WIDTH_PX", 1.3)
    assert area() == pytest.approx(narrow, abs=1e-3)


def test_the_truth_scores_the_most_and_an_unmoved_model_less(
    make_run: Callable[..., Any], truth: Truth, ensemble: Ensemble
) -> None:
    rows = np.flatnonzero(ensemble.model.is_polymer)
    scores = fsc_scores(make_run(), truth, rows, None)
    everything = 0.5 - 1 / BOX
    assert scores["fsc_n"] == 100
    assert scores["fsc_area"] == pytest.approx(everything, abs=1e-3)
    assert scores["conformation_fsc_area"] == pytest.approx(everything, abs=1e-3)
    assert scores["still_fsc_area"] < 0.9 * everything
    nothing = fsc_scores(make_run(np.zeros((240, 1))), truth, rows, None)
    assert nothing["fsc_area"] == pytest.approx(nothing["still_fsc_area"])


def test_one_image_by_hand(make_run: Callable[..., Any], truth: Truth, ensemble: Ensemble) -> None:
    rows = np.flatnonzero(ensemble.model.is_polymer)
    run = make_run(1.0 - truth.coordinate)
    comparison = VolumeComparison(run, truth, rows)
    found, _ = comparison.of_images(np.array([3]))
    first, second = (
        fft.irfftn(comparison.volume(structure), s=(BOX,) * 3)
        for structure in (truth.ca_states[truth.state[3]], run.residues(np.array([3]))[0, rows])
    )
    assert found[0] == pytest.approx(cryobench_area(first, second), abs=1e-6)


def test_the_observer_is_the_posterior_mean_volume(
    make_run: Callable[..., Any], truth: Truth, ensemble: Ensemble
) -> None:
    rows = np.flatnonzero(ensemble.model.is_polymer)
    comparison = VolumeComparison(make_run(), truth, rows)
    posterior = np.zeros((2, 11))
    posterior[0, truth.state[0]] = 1.0
    posterior[1, [0, 10]] = 0.5
    ideal = IdealObserver(np.array([0, 5]), np.arange(11), posterior)
    certain, unsure = comparison.of_observer(ideal, np.array([0, 1]))
    assert certain == pytest.approx(0.5 - 1 / BOX, abs=1e-6)
    mean = 0.5 * (comparison.volume(truth.ca_states[0]) + comparison.volume(truth.ca_states[10]))
    assert unsure == pytest.approx(
        comparison.area(comparison.volume(truth.ca_states[5]), mean), abs=1e-5
    )
