"""The number of latent dimensions, by what held-out coefficients gain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from helpers.toy import Toy
from kinesphere.methods.segments import SegmentsScheduleConfig
from kinesphere.training.dimension import held_out_images
from kinesphere.training.trainer import Trainer


def test_an_eighth_of_the_images_is_held_out_within_reason() -> None:
    assert [len(held_out_images(n, 0)) for n in (50, 400, 4000, 100_000)] == [25, 100, 500, 1000]
    assert torch.equal(held_out_images(4000, 0), held_out_images(4000, 0))
    assert not torch.equal(held_out_images(4000, 0), held_out_images(4000, 1))
    assert len(held_out_images(4000, 3).unique()) == 500


def trained(toy: Toy, checkpoints: Path | None = None) -> Trainer:
    trainer = toy.trainer(
        inference="gaussian",
        latent_dim=3,
        chooses_dimension=True,
        checkpoints=checkpoints,
        schedule=SegmentsScheduleConfig(epochs=8),
    )
    trainer.fit()
    return trainer


def test_one_hinge_is_one_dimension(make_toy: Callable[..., Toy], checkpoints: Path) -> None:
    toy = make_toy(n_images=512)
    trainer = trained(toy, checkpoints)
    gains = trainer.progress.dimension_gains
    assert trainer.latents.latent_dim == trainer.motion.latent_dim == 1
    assert gains[0][0] > 10.0 * gains[0][1]
    assert gains[1][0] < 3.0 * gains[1][1]
    z = trainer.infer().mean
    assert z.shape == (512, 1)
    order = torch.stack([z[:, 0], toy.angle_radians])
    assert abs(float(torch.corrcoef(order)[0, 1])) > 0.9

    # a trainer that knows nothing of it goes on from the checkpoint, with one dimension
    again = toy.trainer(inference="gaussian", latent_dim=3, checkpoints=checkpoints)
    again.resume()
    assert again.motion.latent_dim == 1
    assert torch.equal(again.infer().mean, z)


def test_what_does_not_move_has_no_dimension(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy(n_images=400)
    likelihood = toy.trainer().likelihood(5)
    rest = likelihood.forward.structure_factor(
        (toy.reference.points @ toy.observations.rotation)[..., :2]
    )
    clean = rest * likelihood.forward.transfer(toy.observations.ctf)
    level = clean.abs().square().mean().sqrt()
    noise = torch.randn(
        clean.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(5)
    )
    toy.observations.exact.copy_(clean + level * noise)
    trainer = trained(toy)
    gains = trainer.progress.dimension_gains
    assert len(gains) == 1
    assert gains[0][0] < 3.0 * gains[0][1]
    assert trainer.latents.latent_dim == 1
