"""Principal motions, fluctuations and clashes against hand-made ensembles."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.ensemble import (
    count_clashes,
    decode_in_chunks,
    errors_along,
    residue_fluctuation,
    sample_images,
    structure_components,
)


def test_scores_are_rms_displacements_in_angstrom() -> None:
    rng = np.random.default_rng(1)
    base, direction = rng.normal(0, 10, (30, 3)), rng.normal(0, 1, (30, 3))
    direction /= np.sqrt(np.mean(np.sum(direction**2, axis=1)))
    amount = rng.normal(0, 2, 400)
    motions = structure_components(
        (base + amount[:, None, None] * direction).astype(np.float32), 3, seed=0
    )
    assert np.abs(motions.scores_angstrom[:, 0]) == pytest.approx(
        np.abs(amount - amount.mean()), abs=1e-4
    )
    assert motions.variance_fraction[0] == pytest.approx(1.0, abs=1e-6)


def test_projection_repeats_the_scores(run: Any) -> None:
    positions = decode_in_chunks(run.decode, run.latents.mean[:300], run.model.n_residues)
    motions = structure_components(positions, 4, seed=0)
    assert motions.project(positions) == pytest.approx(motions.scores_angstrom, abs=1e-3)


def test_errors_of_a_linear_decoder_are_exact() -> None:
    direction = np.ones((4, 3)) / np.sqrt(3)  # 1 Å RMS for each unit

    def decode(z: np.ndarray) -> np.ndarray:
        return z[:, 0, None, None] * 2.0 * direction

    rng = np.random.default_rng(2)
    mean, covariance = (
        rng.normal(0, 1, (200, 2)),
        np.tile([[0.0625, 1.0], [1.0, 25.0]], (200, 1, 1)),
    )
    motions = structure_components(decode(mean).astype(np.float32), 1, seed=0)

    def along(z: np.ndarray) -> np.ndarray:
        return motions.project(decode(z).astype(np.float32))[:, 0]

    assert errors_along(along, mean, covariance) == pytest.approx(0.5, rel=1e-4)


def test_errors_along_a_curved_ridge_are_those_across_it() -> None:
    """Latents on a circle mean the same structure: the Gaussian of a long posterior leaves it, the
    error does not."""
    mean = np.tile([[1.0, 0.0]], (5, 1))
    covariance = np.tile(np.diag([0.01, 0.64]), (5, 1, 1))

    def radius(z: np.ndarray) -> np.ndarray:
        return np.hypot(z[:, 0], z[:, 1])

    assert errors_along(radius, mean, covariance) == pytest.approx(0.1, rel=1e-6)


def test_fluctuation_is_the_rms_displacement() -> None:
    positions = np.zeros((2, 3, 3))
    positions[0, 1], positions[1, 1] = [3.0, 0.0, 4.0], [-3.0, 0.0, -4.0]
    assert residue_fluctuation(positions) == pytest.approx([0.0, 5.0, 0.0])


def test_clashes_count_close_pairs_that_are_not_neighbours(fake: ModuleType) -> None:
    model = fake.helix_bundle()
    apart = model.centres_angstrom
    clashing = apart.copy()
    clashing[5] = clashing[100] + [3.0, 0.0, 0.0]  # its own neighbours stay further than 4 Å away
    clashing[100 - 1] += 100.0
    clashing[100 + 1] -= 100.0
    assert count_clashes(np.stack([apart, clashing]), model).tolist() == [0, 1]


def test_the_end_of_one_chain_may_clash_with_the_start_of_the_next(fake: ModuleType) -> None:
    model = fake.helix_bundle()
    positions = model.centres_angstrom
    last = int(np.flatnonzero(model.chain == "A")[-1])
    positions[last + 1] = positions[last] + [0.0, 0.0, 3.9]
    assert count_clashes(positions[None], model)[0] >= 1
    positions[last + 1] = positions[last] + [500.0, 0.0, 0.0]
    assert count_clashes(positions[None], model)[0] == 0


def test_chunked_decoding_equals_decoding_at_once(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = run.latents.mean[:100]
    whole = run.decode_atoms(z)
    monkeypatch.setattr("kinesphere.analysis.ensemble.CHUNK_BYTES", 200_000)
    kept = np.array([3, 17, 200])
    assert decode_in_chunks(run.decode_atoms, z, run.model.n_atoms, kept) == pytest.approx(
        whole[:, kept], abs=1e-4
    )


def test_the_sample_is_bounded_sorted_and_repeatable() -> None:
    rows = sample_images(100_000, 14_000, seed=4)
    assert len(rows) == int(2e8 // (12 * 14_000))
    assert np.all(np.diff(rows) > 0)
    assert np.array_equal(rows, sample_images(100_000, 14_000, seed=4))
    assert np.array_equal(sample_images(50, 200, seed=4), np.arange(50))
