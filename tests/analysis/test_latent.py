"""Components, traversals and clusters of latents with a known structure."""

import sys

import numpy as np
import pytest

from kinesphere.analysis.latent import (
    cluster,
    latent_components,
    signal_to_error,
    standard_steps,
    traverse,
    umap_embedding,
)
from kinesphere.errors import InputError


@pytest.fixture
def latents() -> tuple[np.ndarray, np.ndarray]:
    """A cloud that is long along (3, 4)/5, with errors of 0.3 along the first and 0.1 along the
    second axis."""
    rng = np.random.default_rng(3)
    along, across = rng.normal(0, 2.0, 5000), rng.normal(0, 0.5, 5000)
    mean = (
        along[:, None] * np.array([0.6, 0.8])
        + across[:, None] * np.array([-0.8, 0.6])
        + np.array([1.0, -2.0])
    )
    return mean, np.tile(np.diag([0.3, 0.1]) ** 2, (5000, 1, 1))


def test_components_find_the_long_axis_and_carry_the_errors(
    latents: tuple[np.ndarray, np.ndarray],
) -> None:
    components = latent_components(*latents)
    assert components.directions[0] == pytest.approx([0.6, 0.8], abs=0.01)
    assert components.variance_fraction[0] == pytest.approx(4 / 4.25, abs=0.01)
    assert components.score_errors[0, 0] == pytest.approx(np.hypot(0.6 * 0.3, 0.8 * 0.1), rel=0.01)


def test_a_ridge_is_narrow_across_and_long_along(latents: tuple[np.ndarray, np.ndarray]) -> None:
    """Errors of 0.7 along both axes that nearly cancel in the direction in which the particles
    differ."""
    across = np.array([0.8, -0.6])
    components = latent_components(latents[0], np.tile(np.outer(across, across), (5000, 1, 1)))
    assert components.score_errors[0] == pytest.approx([0.0, 1.0], abs=0.02)


def test_standard_steps_are_a_square_root() -> None:
    root = np.random.default_rng(1).normal(size=(20, 3, 3))
    root[0] = 0.0
    root[1, :, 2] = 0.0  # certain in one direction
    covariance = root @ root.swapaxes(1, 2)
    steps = standard_steps(covariance)
    np.testing.assert_allclose(steps @ steps.swapaxes(1, 2), covariance, atol=1e-12)


def test_components_reproduce_the_latents(latents: tuple[np.ndarray, np.ndarray]) -> None:
    components = latent_components(*latents)
    assert components.centre + components.scores @ components.directions == pytest.approx(
        latents[0]
    )


def test_signal_to_error_is_spread_over_error() -> None:
    rng = np.random.default_rng(0)
    ratio = signal_to_error(
        rng.normal(0, [3.0, 0.2, 1.0], (20000, 3)), np.tile([1.0, 1.0, 0.0], (20000, 1))
    )
    assert ratio == pytest.approx([3.0, 0.2, np.inf], rel=0.03)


def test_traversal_runs_from_the_5th_to_the_95th_percentile(
    latents: tuple[np.ndarray, np.ndarray],
) -> None:
    components = latent_components(*latents)
    walk = traverse(components, 0, 11)
    inside = (components.scores[:, 0] >= walk.scores[0]) & (
        components.scores[:, 0] <= walk.scores[-1]
    )
    assert inside.mean() == pytest.approx(0.9, abs=0.001)
    steps = np.diff(walk.latents, axis=0)
    assert steps == pytest.approx(
        np.tile(components.directions[0] * np.diff(walk.scores)[0], (10, 1))
    )


def test_nearest_particles_lie_by_the_traversal(latents: tuple[np.ndarray, np.ndarray]) -> None:
    components = latent_components(*latents)
    walk = traverse(components, 0, 5)
    chosen = components.scores[walk.nearest]
    assert chosen[:, 0] == pytest.approx(walk.scores, abs=0.2)
    assert np.all(np.abs(chosen[:, 1] - np.median(components.scores[:, 1])) < 0.1)


def test_one_dimension_is_enough() -> None:
    components = latent_components(np.linspace(-1, 1, 50)[:, None], np.full((50, 1, 1), 0.01))
    assert traverse(components, 0, 3).scores == pytest.approx([-0.9, 0.0, 0.9], abs=0.01)


def test_clusters_separate_populations_and_are_numbered_along_the_first_component() -> None:
    rng = np.random.default_rng(5)
    truth = rng.permutation(np.repeat([0, 1, 2], [100, 300, 200]))
    mean = np.array([-5.0, 0.0, 5.0])[truth][:, None] + rng.normal(0, 0.3, (600, 2))
    clusters = cluster(latent_components(mean, np.tile(np.eye(2), (len(mean), 1, 1))), 3, seed=1)
    assert clusters.size.tolist() in ([100, 300, 200], [200, 300, 100])
    for k, particle in enumerate(clusters.representative):
        rows = clusters.label == k
        assert len(set(truth[rows])) == 1
        distance = np.linalg.norm(mean[rows] - mean[rows].mean(axis=0), axis=1)
        assert np.linalg.norm(mean[particle] - mean[rows].mean(axis=0)) == pytest.approx(
            distance.min()
        )


def test_more_clusters_than_distinct_particles() -> None:
    components = latent_components(np.array([[0.0], [1.0], [1.0], [0.0]]), np.ones((4, 1, 1)))
    assert cluster(components, 5, seed=0).size.tolist() == [2, 2]


def test_missing_umap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=r"pip install 'kinesphere\[umap\]'"):
        umap_embedding(np.zeros((10, 2)), seed=0)
