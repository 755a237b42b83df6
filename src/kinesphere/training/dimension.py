"""How many latent dimensions the images ask for, told by coefficients that nothing was fitted to.

The latents are turned to principal axes, what images know most of first. Images that have trained
nothing are split, each into two random halves of its coefficients; its latent is inferred from one,
and the other is predicted with the first dimension alone, the first two, and so on. What a
dimension adds there it truly knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.inference.coefficient_sets import masked, split_coefficients
from kinesphere.inference.gaussian import GaussianLatents
from kinesphere.inference.likelihood import Likelihood, Scorer

if TYPE_CHECKING:  # the trainer calls these functions
    from kinesphere.training.trainer import Trainer

_PART_HELD_OUT = 0.125
_FEWEST_HELD_OUT = 100
_MOST_HELD_OUT = 1000
_STANDARD_ERRORS = 3.0  # that a dimension has to gain


def held_out_images(n_images: int, seed: int) -> Int[Tensor, " v"]:
    """Choose the images that train nothing until the dimension is known: an eighth, 100 to 1,000,
    never more than half.
    """
    count = min(max(round(_PART_HELD_OUT * n_images), _FEWEST_HELD_OUT), _MOST_HELD_OUT)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_images, generator=generator)
    return order[: min(count, n_images // 2)].sort().values


@torch.no_grad()
def choose_dimension(trainer: Trainer, likelihood: Likelihood) -> list[tuple[float, float]]:
    """Turn the latents to principal axes, and leave out the dimensions that tell nothing.

    One is kept at least, in which nothing may move.

    Parameters
    ----------
    trainer
        Whose motion and latents change.
    likelihood
        At the resolution that they were trained at.

    Returns
    -------
    list
        What each dimension adds to the log-likelihood of held-out coefficients, in nats an image,
        and the standard error of that: first the best known, and one that is left out at the end,
        where there is one.
    """
    latents = trainer.latents
    if not isinstance(latents, GaussianLatents):
        raise TypeError("only latents with a posterior an image can be turned")
    # of ascending variance: first what is known best
    _, axes = torch.linalg.eigh(latents.mean_covariance.double())
    trainer.turn(axes.float())
    gain = _gains(trainer, latents, likelihood)
    trainer.ranks.sum_([gain])
    gain = gain[gain.abs().sum(1) > 0]
    mean = gain.mean(0)
    error = gain.std(0) / max(len(gain), 1) ** 0.5
    gains = list(zip(mean.tolist(), error.tolist(), strict=True))
    kept = count_telling(gains)
    trainer.turn(torch.eye(latents.latent_dim)[:, : max(kept, 1)])
    return gains[: kept + 1]


def count_telling(gains: Sequence[tuple[float, float]]) -> int:
    """Count the dimensions, from the first, that each gain more than three standard errors.

    Parameters
    ----------
    gains
        Gain of each, in nats, and its standard error.
    """
    tells = [gain > _STANDARD_ERRORS * error for gain, error in gains]
    return tells.index(False) if False in tells else len(tells)


def _gains(
    trainer: Trainer, latents: GaussianLatents, likelihood: Likelihood
) -> Float[Tensor, "v d"]:
    """Measure what each dimension adds in each of the held-out images; zero for those of other
    ranks.
    """
    rows = trainer.held_out
    gain = torch.zeros(len(rows), latents.latent_dim, dtype=torch.float64)
    generator = torch.Generator().manual_seed(trainer.seed)
    band = likelihood.forward.band
    in_a = split_coefficients(band, len(rows), generator)
    trainer.motion.eval()
    for some in trainer.ranks.share(torch.arange(len(rows))).split(trainer.batch_size):
        if len(some) == 0:
            continue
        batch = trainer.observations.batch(rows[some], band, trainer.device)
        prepared = likelihood.prepare(batch)
        side = in_a[some].to(prepared.data.device)
        for seen, unseen in ((side, ~side), (~side, side)):
            scorer = Scorer(likelihood, masked(prepared, seen), trainer.decoder)
            z = latents.approximate(scorer).mean
            d = z.shape[1]
            first = torch.ones(d + 1, d, device=z.device).tril(-1)  # none, one, two, … of them
            judge = Scorer(likelihood, masked(prepared, unseen), trainer.decoder)
            score = judge.own(z[:, None] * first)
            gain[some] += 0.5 * score.diff(dim=1).double().cpu()
    trainer.motion.train()
    return gain
