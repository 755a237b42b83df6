"""Errors of displacements from two independently trained half-set models (DynaMight,
Discussion).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.observations.observations import Observations
from kinesphere.runtime import atomic_write
from kinesphere.training.trainer import Trainer

DISPLACEMENT_ERRORS_FILE = Path("validation") / "displacement_errors.npz"
_IMAGES_AT_ONCE = 256


@dataclass(frozen=True)
class HalfModelErrors:
    """How far two models disagree about the images that trained neither.

    The latent spaces of the models differ; so each infers these images' latents itself, and what
    they decode is compared in Å, in the frame of the map. A Gaussian's displacement is counted from
    its mean over the images: where the two references happen to lie is no error of the motion. Both
    models see the same noise of an image, which therefore makes them err alike: the difference
    measures what training left uncertain, and each model has 1/√2 of it.

    Parameters
    ----------
    index
        (v,) rows of the images in the particle set.
    error_angstrom
        (v, g) distance between the two displacements of every Gaussian.
    displacement_angstrom
        (v, g) mean of the lengths of the two.
    offset_angstrom
        (g, 3) mean difference of positions: where the two models have the Gaussian on average.
    latent
        (2, v, d) what each model inferred.
    """

    index: Int[np.ndarray, " v"]
    error_angstrom: Float[np.ndarray, "v g"]
    displacement_angstrom: Float[np.ndarray, "v g"]
    offset_angstrom: Float[np.ndarray, "g 3"]
    latent: Float[np.ndarray, "2 v d"]

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(self))

    def summary(self) -> str:
        """Say in a line how large the errors are."""
        error = self.error_angstrom
        moved = self.displacement_angstrom
        return (
            f"Two half-set models on {len(self.index)} images that trained neither: "
            "displacements of "
            f"{np.median(moved):.2f} Å (median) differ by {np.median(error):.2f} Å (median), "
            f"{np.percentile(error, 95):.2f} Å (95th percentile)"
        )


def compare_half_models(
    first: Trainer, second: Trainer, images: Observations, index: Int[np.ndarray, " v"]
) -> HalfModelErrors:
    """Decode the same images with both half-set models and compare every Gaussian's displacement.

    Parameters
    ----------
    first, second
        Trainers of the two half sets, after training.
    images
        The validation images.
    index
        (v,) their rows in the particle set.
    """
    trainers = (first, second)
    latents = [trainer.infer(images).mean for trainer in trainers]
    means = [_mean_positions(trainer, z) for trainer, z in zip(trainers, latents, strict=True)]
    errors = []
    lengths = []
    for rows in torch.arange(len(images)).split(_IMAGES_AT_ONCE):
        one, two = (
            _positions(trainer, z[rows]) - mean
            for trainer, z, mean in zip(trainers, latents, means, strict=True)
        )
        errors.append((one - two).norm(dim=-1))
        lengths.append(0.5 * (one.norm(dim=-1) + two.norm(dim=-1)))
    return HalfModelErrors(
        index=index,
        error_angstrom=torch.cat(errors).numpy(),
        displacement_angstrom=torch.cat(lengths).numpy(),
        offset_angstrom=(means[0] - means[1]).numpy(),
        latent=torch.stack(latents).numpy(),
    )


def _mean_positions(trainer: Trainer, z: Tensor) -> Tensor:
    parts = [_positions(trainer, part).sum(0) for part in z.split(_IMAGES_AT_ONCE)]
    return torch.stack(parts).sum(0) / len(z)


@torch.no_grad()
def _positions(trainer: Trainer, z: Tensor) -> Tensor:
    return trainer.decoder.decode(z.to(trainer.device)).cpu()
