"""Displacements continued from anchors to the nodes of the lattice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kinesphere.imaging.pose import project_points
from kinesphere.reconstruction.displacement import (
    Anchors,
    Carrier,
    NoMotion,
    RunMotion,
    common_reference,
)


def chain(n: int = 60) -> np.ndarray:
    """A compact random walk of residues 3.8 Å apart."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(n, 3))
    walk = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    compact: np.ndarray = 0.6 * (walk - walk.mean(0))
    return compact


def rigid(points: np.ndarray, degrees: float = 30.0) -> np.ndarray:
    """Displacements under a rotation about a point outside, and a shift."""
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    moved: np.ndarray = (
        (points - [20.0, 5.0, 0.0]) @ rotation.T + [20.0, 5.0, 0.0] + [1.0, -2.0, 0.5] - points
    )
    return moved


def test_a_rigid_body_takes_the_space_around_it_along() -> None:
    anchors = chain()
    rng = np.random.default_rng(1)
    points = anchors[rng.integers(len(anchors), size=200)] + rng.normal(0.0, 3.0, (200, 3))
    carried = Carrier.between(anchors, points).carry(rigid(anchors)[None])[0]
    error = np.linalg.norm(carried - rigid(points), axis=1)
    nearest = np.linalg.norm(points[:, None] - anchors, axis=2).argmin(1)
    jumping = np.linalg.norm(rigid(anchors)[nearest] - rigid(points), axis=1)
    assert np.median(error) < 0.35
    assert np.median(error) < 0.4 * np.median(jumping)


def test_a_shift_is_carried_exactly_everywhere() -> None:
    anchors = chain()
    points = np.random.default_rng(2).normal(0.0, 60.0, (300, 3))
    shift = np.broadcast_to([3.0, -1.0, 2.0], anchors.shape)
    assert Carrier.between(anchors, points).carry(shift[None])[0] == pytest.approx(
        np.tile(shift[0], (300, 1)), abs=1e-4
    )


def test_field_is_smooth_between_bodies_and_bounded_far_away() -> None:
    # two bodies that move apart: along the line between them the field changes over some Å, not at
    # one point
    x = np.arange(-30.0, 30.1, 3.8)
    anchors = np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=1)
    anchors = np.concatenate(
        [anchors + np.array([0.0, dy, dz]) for dy in (0.0, 3.8) for dz in (0.0, 3.8)]
    )
    displacement = np.where(anchors[:, :1] < 0, -5.0, 5.0) * np.array([0.0, 0.0, 1.0])
    line = np.stack([np.arange(-12.0, 12.0, 0.25), np.full(96, 2.0), np.full(96, 2.0)], axis=1)
    along = Carrier.between(anchors, line).carry(displacement[None])[0][:, 2]
    assert along[0] == pytest.approx(-5.0, abs=0.5)
    assert along[-1] == pytest.approx(5.0, abs=0.5)
    assert np.abs(np.diff(along)).max() < 1.3
    far = Carrier.between(anchors, np.array([[0.0, 400.0, 0.0]])).carry(displacement[None])[0]
    assert np.abs(far).max() < 20.0


@pytest.mark.parametrize(
    ("n_images", "n_values", "n_anchors"), [(1, 3, 60), (25, 3, 60), (40, 2, 60), (7, 1, 3)]
)
def test_compiled_sums_over_anchors_agree_with_the_sparse_product(
    n_images: int, n_values: int, n_anchors: int
) -> None:
    rng = np.random.default_rng(5)
    carrier = Carrier.between(chain()[:n_anchors], rng.normal(0.0, 20.0, (50, 3)))
    displacement = rng.normal(0.0, 5.0, (n_images, n_anchors, n_values))
    carried = carrier.carry(displacement)
    assert carried.dtype == np.float32
    expected = np.stack([carrier.matrix @ of_image for of_image in displacement])
    assert carried == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n_anchors", [1, 2, 5])
def test_few_anchors_are_enough(n_anchors: int) -> None:
    anchors = chain()[:n_anchors]
    carrier = Carrier.between(anchors, np.array([[1.0, 2.0, 3.0], [100.0, 0.0, 0.0]]))
    assert np.isfinite(carrier.matrix.toarray()).all()
    assert carrier.matrix.sum(1) == pytest.approx(np.ones((2, 1)), abs=1e-5)


def test_coinciding_anchors_do_no_harm() -> None:
    anchors = np.repeat(chain()[:3], 10, axis=0)
    assert np.isfinite(Carrier.between(anchors, chain()).matrix.toarray()).all()


class TwoModels:
    """Half set 1 moves along x by the image's row, half set 2 along y."""

    def __init__(self, half: np.ndarray) -> None:
        self.half = half

    def displacements(self, points: np.ndarray, images: np.ndarray) -> np.ndarray:
        direction = np.where(self.half[images][:, None] == 1, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
        return np.repeat((images[:, None] * direction)[:, None], len(points), axis=1)


def test_each_image_moves_by_its_own_half() -> None:
    half = np.array([1, 2, 2, 1, 2])
    anchors = {1: Anchors(chain(), chain()), 2: Anchors(chain()[:20], chain()[:20])}
    field = RunMotion(TwoModels(half).displacements, chain()[:7], np.zeros(3), anchors, half)
    moved = field.at(np.array([4, 3, 0]))
    assert moved.shape == (3, 7, 3)
    assert torch.allclose(moved[0], torch.tensor([0.0, 4.0, 0.0]).expand(7, 3), atol=1e-4)
    assert torch.allclose(moved[1], torch.tensor([3.0, 0.0, 0.0]).expand(7, 3), atol=1e-4)


def test_what_images_show_of_a_motion_is_its_projection() -> None:
    half = np.array([1, 2, 2, 1, 2])
    anchors = {1: Anchors(chain(), chain() + 1.0), 2: Anchors(chain()[:20], chain()[:20])}
    field = RunMotion(TwoModels(half).displacements, chain()[:7], np.zeros(3), anchors, half)
    rows = np.array([4, 3, 0])
    rotation = torch.from_numpy(Rotation.random(3, random_state=1).as_matrix())
    expected = project_points(field.at(rows), rotation.float())
    assert torch.allclose(field.seen(rows, rotation.float()), expected, atol=1e-4)
    assert not NoMotion(5).seen(rows, rotation.float()).any()


class TwoReferences:
    """Both half sets show the same states, a body that turns; each model starts from a state of its
    own."""

    def __init__(
        self, points: np.ndarray, angles: np.ndarray, state: np.ndarray, start: dict[int, int]
    ) -> None:
        self._turns = Rotation.from_rotvec(
            np.radians(angles)[:, None] * [0.0, 0.6, 0.8]
        ).as_matrix()
        self.references = {
            half: points[half::2] @ self._turns[first].T for half, first in start.items()
        }
        self.half, self._state, self._start = np.arange(len(state)) % 2 + 1, state, start

    def displacements(self, points: np.ndarray, images: np.ndarray) -> np.ndarray:
        start = np.array([self._start[half] for half in self.half[images]])
        turns = self._turns[self._state[images]] @ self._turns[start].transpose(0, 2, 1)
        moved: np.ndarray = np.einsum("mij,pj->mpi", turns, points) - points
        return moved


def test_two_learnt_references_become_one() -> None:
    body = chain(80) + np.array([15.0, 0.0, 0.0])
    state = np.repeat(
        np.random.default_rng(3).integers(0, 5, 200), 2
    )  # images in pairs: one of each half
    run = TwoReferences(body, np.linspace(-20.0, 20.0, 5), state, {1: 1, 2: 4})
    nodes = body[:40]

    def disagreement(anchors: dict[int, Anchors]) -> float:
        field = RunMotion(run.displacements, nodes, np.zeros(3), anchors, run.half)
        first, second = field.at(np.arange(0, 40, 2)), field.at(np.arange(1, 40, 2))
        return float((first - second).norm(dim=2).median())

    apart = disagreement({half: Anchors(points, points) for half, points in run.references.items()})
    together = disagreement(common_reference(run.displacements, run.references, run.half))
    assert apart > 5.0
    assert together < 0.08 * apart


def test_references_that_agree_are_kept() -> None:
    run = TwoModels(np.array([1, 2]))
    same = {1: chain(), 2: chain()}
    for points in common_reference(run.displacements, same, run.half).values():
        assert np.array_equal(points.common_angstrom, chain())
    assert np.array_equal(
        common_reference(run.displacements, {0: chain()}, np.zeros(2, int))[0].common_angstrom,
        chain(),
    )


def test_no_motion_is_none() -> None:
    assert not NoMotion(5).at(np.arange(3)).any()
