"""Whether latents know what they should not: from where a molecule is seen, and at which defocus.

Where latents follow pose or CTF, a motion may be an error of these. The measure is the information
imbalance of `embedding`: 0 where neighbours in one space are neighbours in the other, 1 where they
tell nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.ensemble import sample_images
from kinesphere.evaluation.embedding import information_imbalance
from kinesphere.runs.halves import images_by_model

_IMAGES = 1500


def leakage_scores(
    latents: Float[np.ndarray, "n d"],
    half: Int[np.ndarray, " n"],
    rotation: Float[np.ndarray, "n 3 3"],
    defocus_angstrom: Float[np.ndarray, " n"],
) -> dict[str, list[float]]:
    """Measure what latents say of viewing direction and defocus, and the other way round.

    Parameters
    ----------
    latents
        (n, d) posterior means.
    half
        (n,) half set, each with a latent space of its own.
    rotation
        (n, 3, 3) R; its third column is the viewing direction in the frame of the volume.
    defocus_angstrom
        (n,).

    Returns
    -------
    dict
        `leakage_pose`, `leakage_ctf`: [latents → it, it → latents], 1 each where nothing leaks;
        mean over half sets. NaN where all images have the same.
    """
    return {
        "leakage_pose": _imbalance(
            latents.astype(np.float64), rotation[:, :, 2].astype(np.float64), half
        ),
        "leakage_ctf": _imbalance(
            latents.astype(np.float64), defocus_angstrom[:, None].astype(np.float64), half
        ),
    }


def _imbalance(
    latents: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n k"], half: Int[np.ndarray, " n"]
) -> list[float]:
    if not (np.ptp(other, axis=0) > 0).any() or not (np.ptp(latents, axis=0) > 0).any():
        return [float("nan")] * 2
    found = []
    for rows in images_by_model(half).values():
        if len(rows) > 2:
            some = rows[sample_images(len(rows), 1, seed=0, limit=_IMAGES)]
            found.append(information_imbalance(latents[some], other[some]))
    mean: list[float] = np.mean(found, axis=0).tolist()
    return mean
