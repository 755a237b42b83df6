"""Where training starts from: the motion that the images show."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from helpers.toy import Toy
from kinesphere.training.directions import (
    Bodies,
    imitate,
    principal_directions,
    start_along_directions,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_motions_of_bodies_and_forces_on_them_are_adjoint() -> None:
    bodies = Bodies.of(20.0 * normal(100, 3))
    motion = normal(1, 6 * len(bodies.centre), seed=1)
    force = normal(1, 100, 3, seed=2)
    work = (bodies.displacement(motion) * force).sum()
    torch.testing.assert_close((bodies.torques_and_forces(force) * motion).sum(), work)


def test_directions_are_those_of_the_variance_that_noise_does_not_have() -> None:
    root = normal(8, 8)
    noise = root @ root.T + 8.0 * torch.eye(8)
    motions = torch.linalg.qr(normal(8, 2, seed=1)).Q.T * torch.tensor([[3.0], [1.5]])
    signal = noise + noise @ motions.T @ motions @ noise
    found = principal_directions(signal, noise, 3)
    # the same plane and size, up to the ridge; the third is nothing
    torch.testing.assert_close(found.T @ found, motions.T @ motions, atol=0.4, rtol=0.05)
    assert float(found[2].norm()) < 0.1
    assert principal_directions(signal, noise, 20).shape == (20, 8)


def test_a_model_imitates_displacements_and_keeps_its_boundaries(toy: Toy) -> None:
    trainer = toy.trainer(inference="gaussian", latent_dim=2)
    reference = toy.reference.points
    kept = [parameter.clone() for parameter in trainer.motion.structural_parameters()]
    wanted = torch.stack([torch.ones_like(reference), torch.zeros_like(reference)])
    imitate(trainer.motion, wanted, torch.Generator().manual_seed(0))
    moved = (trainer.motion(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) - reference).detach()
    assert float((moved[0] - 1.0).abs().mean()) < 0.3
    assert float(moved[1].abs().mean()) < 0.3
    for before, after in zip(kept, trainer.motion.structural_parameters(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_training_starts_along_the_motion_of_the_images(
    make_toy: Callable[..., Toy], noise: float
) -> None:
    """The hinge of the toy turns one half about z, to be seen in one pass over noisy images."""
    toy = make_toy(n_images=512, noise=noise)
    trainer = toy.trainer(inference="gaussian", latent_dim=1)
    start_along_directions(trainer, trainer.likelihood(0))
    trainer.motion.eval()
    moved = (trainer.motion(torch.tensor([[1.0], [-1.0]])).diff(dim=0)[0]).detach()
    points = toy.reference.points
    axis = torch.tensor([0.0, 0.0, 1.0]).expand_as(points)
    turn = torch.linalg.cross(axis, points) * (torch.arange(60) >= 30)[:, None]
    # poses are given, so that what the halves do relative to each other is what counts
    relative = torch.nn.functional.cosine_similarity(moved.flatten(), turn.flatten(), dim=0)
    assert abs(float(relative)) > 0.6
