"""Densities that follow the structures, that stay behind, and that go the other way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinesphere.volumes.kernel import filter_shells
from kinesphere.volumes.structure_volumes import (
    ResidueAgreement,
    agreement,
    fitting_gain,
    implied_volume,
    summarise,
    write_residues,
)

BOX, PIXEL = 48, 3.0


class CentredRun:
    """A run with a known hinge, its box centre in the middle of the molecule; its images are not
    asked for."""

    particles = motions = None

    def __init__(self, run: Any) -> None:
        self.run = run
        self.centre_angstrom = run.model.centres_angstrom.mean(axis=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def residues(self, images: np.ndarray) -> np.ndarray:
        return self.run.decode(self.run.latents.mean[images])


@pytest.fixture(scope="module")
def volumes(run: Any) -> tuple[Any, list[np.ndarray], np.ndarray]:
    """The run, changes of density from the mean for the two populations, and residues' places on
    the grid."""
    centred, rows = CentredRun(run), np.arange(len(run.latents.index))
    still, mean = implied_volume(centred, rows, np.ones(len(rows)), BOX, PIXEL)
    right = run.latents.mean[:, 0] > 0
    changes = [
        implied_volume(centred, rows, w.astype(float), BOX, PIXEL)[0] - still
        for w in (right, ~right)
    ]
    return centred, changes, (mean - centred.centre_angstrom) / PIXEL + BOX // 2


def test_an_implied_volume_holds_all_electrons_where_the_molecule_is(run: Any) -> None:
    centred, rows = CentredRun(run), np.arange(50)
    density, mean = implied_volume(centred, rows, np.ones(50), BOX, PIXEL)
    assert density.sum() == pytest.approx(run.model.atomic_number.sum(), rel=1e-6)
    electrons = np.bincount(run.model.residue_index, run.model.atomic_number)
    expected = np.average(mean, axis=0, weights=electrons)
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    found = [
        (density.sum(axis=other) * axis).sum() / density.sum() for other in ((0, 1), (0, 2), (1, 2))
    ]
    np.testing.assert_allclose(found, expected - centred.centre_angstrom, atol=0.01)


def test_weights_choose_the_images(run: Any) -> None:
    centred, rows = CentredRun(run), np.arange(len(run.latents.index))
    right = run.latents.mean[:, 0] > 0
    _, structure = implied_volume(centred, rows, right.astype(float), BOX, PIXEL)
    np.testing.assert_allclose(
        structure, centred.residues(np.flatnonzero(right)).mean(axis=0), atol=0.2
    )


def test_density_that_follows_agrees_and_density_that_does_not_is_told(volumes: Any) -> None:
    centred, changes, place = volumes
    segment = centred.run.memberships.argmax(axis=1)
    moving = segment == centred.run.hinges[0].segment
    noise = 0.1 * np.std(changes[0]) * np.random.default_rng(0).standard_normal((2, BOX, BOX, BOX))
    follows = agreement([c + n for c, n in zip(changes, noise, strict=True)], changes, place, 3.0)
    backwards = agreement([-c for c in changes], changes, place, 3.0)
    unrelated = agreement(list(noise), changes, place, 3.0)
    assert np.median(follows[moving]) > 0.95
    assert np.median(backwards[moving]) < -0.95
    assert abs(np.median(unrelated[moving])) < 0.3


def test_the_gain_makes_up_for_another_scale(volumes: Any) -> None:
    _, changes, _ = volumes
    scale = np.linspace(2.0, 0.5, BOX // 2)
    target = filter_shells(changes[0], scale)
    gain = fitting_gain(changes[0], target)
    np.testing.assert_allclose(gain[1:16], scale[1:16], rtol=1e-3)


def test_the_summary_counts_what_moves_without_support(run: Any, tmp_path: Path) -> None:
    n = run.model.n_residues
    moved = np.where(np.arange(n) < 10, 3.0, 0.1)
    correlation = np.where(np.arange(n) < 4, 0.1, 0.9)
    found = ResidueAgreement(correlation, moved, 8.0)
    assert summarise(found)["n_moving"] == 10
    assert summarise(found)["n_moving_unsupported"] == 4
    write_residues(tmp_path / "residues.csv", run.model, {"kernel": found})
    lines = (tmp_path / "residues.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == n + 1
    assert lines[1].endswith("3.0000,0.1000")
