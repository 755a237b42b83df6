"""Whether the molecule is bright or dark in the images, told from the images themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from kinesphere.fourier import (
    centred_rfft2,
    crop_fourier,
    fourier_grid,
    half_plane_weights,
    radial_average,
    radial_shell_index,
    shift_fourier,
)
from kinesphere.imaging.ctf import evaluate_ctf
from kinesphere.particles.ctf_parameters import ctf_parameters
from kinesphere.particles.grid import ImageGrid
from kinesphere.particles.optics import OpticsGroup
from kinesphere.particles.particle_set import ParticleSet

# Standard deviations of the Gaussian blobs that stand for the molecule, as fractions of the box.
BLOB_SIGMAS = (0.05, 0.08, 0.12, 0.17)
WORKING_BOX_PX = 64
CHUNK_IMAGES = 64
CONCLUSIVE_Z = 4.0
# For normal values: the standard error of a median over that of a mean, and the standard deviation
# over the median absolute deviation.
_MEDIAN_ERROR = 1.2533
_SD_OVER_MAD = 1.4826


@dataclass(frozen=True)
class ContrastEstimate:
    """The sign of the molecule in the images.

    Attributes
    ----------
    sign
        +1 bright (as RELION and kinesphere expect), -1 dark, 0 not decided.
    confidence
        Probability, 0 to 1, that the images differ from noise in the direction found.
    statement
        One sentence for the user.
    z_score
        Evidence in standard errors, positive for a bright molecule.
    n_images
        Images looked at.
    """

    sign: int
    confidence: float
    statement: str
    z_score: float
    n_images: int


def estimate_contrast_sign(particles: ParticleSet, n_images: int = 1000) -> ContrastEstimate:
    """Estimate whether the molecule is bright or dark.

    Each image is centred by its shift, multiplied by its CTF (with RELION's sign, positive at DC)
    and compared with a Gaussian blob at the centre, by the matched filter for the images' own
    radial noise spectrum; DC is left out, so the blob stands against its surroundings. A bright
    molecule gives positive scores. The median score over the images, in units of its robust
    standard error, is the evidence; blobs of several sizes are tried and the clearest one counts.

    Parameters
    ----------
    particles
        Images; without CTF parameters the CTF is taken as one, which is right for its first,
        positive lobe.
    n_images
        At most this many images, spread evenly over the set.

    Returns
    -------
    ContrastEstimate
        Undecided where the evidence is below four standard errors.
    """
    rows = np.unique(
        np.linspace(0, len(particles) - 1, min(n_images, len(particles))).round().astype(np.int64)
    )
    groups = particles.optics_group[rows]
    scores = np.concatenate(
        [_blob_scores(particles, rows[groups == group]) for group in np.unique(groups)]
    )
    centre = np.median(scores, axis=0)
    deviation = np.median(np.abs(scores - centre), axis=0)
    error = _MEDIAN_ERROR * _SD_OVER_MAD * deviation / np.sqrt(len(rows))
    # A single image, or copies of one, show no spread to judge by.
    z_scores = np.divide(centre, error, out=np.zeros_like(centre), where=error > 0)
    return _conclude(float(z_scores[np.abs(z_scores).argmax()]), len(rows))


def _conclude(z_score: float, n_images: int) -> ContrastEstimate:
    # Bonferroni: the clearest of several blobs was picked.
    confidence = max(0.0, 1.0 - len(BLOB_SIGMAS) * 2 * float(norm.sf(abs(z_score))))
    sign = 0 if abs(z_score) < CONCLUSIVE_Z else int(np.sign(z_score))
    finding = {
        1: "The molecule is bright, as expected",
        0: "The images do not tell whether the molecule is bright or dark",
        -1: "The molecule is dark: use --invert-contrast",
    }[sign]
    return ContrastEstimate(
        sign, confidence, f"{finding} (z = {z_score:+.1f}, {n_images} images)", z_score, n_images
    )


def _blob_scores(particles: ParticleSet, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Score images of one optics group against each blob size, (b, r); the unit is the standard
    deviation of noise.
    """
    group = particles.optics[int(particles.optics_group[rows[0]])]
    stored_box = particles.images(rows[:1]).shape[-1]
    box = min(WORKING_BOX_PX, stored_box)
    pixel_size = group.pixel_size_angstrom * stored_box / box
    chunks = np.split(rows, range(CHUNK_IMAGES, len(rows), CHUNK_IMAGES))
    transforms = torch.cat(
        [_centred_transforms(particles, chunk, box, pixel_size) for chunk in chunks]
    )
    ctf = _transfer(particles, rows, group, ImageGrid(box, pixel_size))
    whitening = _whitening(transforms, box)
    ky, kx = fourier_grid(box)
    sigmas_px = torch.tensor(BLOB_SIGMAS)[:, None, None] * box
    blobs = torch.exp(-2 * (torch.pi * sigmas_px) ** 2 * (kx**2 + ky**2))  # (r, n, half)
    signal = torch.einsum("bkl,rkl->br", ctf * transforms.real, whitening * blobs)
    variance = torch.einsum("bkl,rkl->br", ctf**2, whitening * blobs**2)
    scores: NDArray[np.float32] = (signal / variance.sqrt()).numpy()
    return scores


def _transfer(
    particles: ParticleSet, rows: NDArray[np.int64], group: OpticsGroup, grid: ImageGrid
) -> Float[Tensor, "b n half"]:
    """By what the molecule is multiplied in the images as they are stored; one where nothing is
    known.
    """
    if not particles.has_ctf:
        return torch.ones(len(rows), grid.box_px, grid.box_px // 2 + 1)
    ctf = evaluate_ctf(ctf_parameters(particles, rows), grid.box_px, grid.pixel_size_angstrom)
    if group.is_ctf_premultiplied:
        return ctf**2
    return ctf.abs() if group.is_phase_flipped else ctf


def _whitening(transforms: Complex[Tensor, "b n half"], box: int) -> Float[Tensor, "n half"]:
    """Weight of each coefficient in a sum over the full plane: one over its shell's power, zero for
    DC and corners.
    """
    shell = radial_shell_index(box)
    power = radial_average((transforms.abs() ** 2).mean(dim=0), box).clamp(min=1e-12)
    weights = half_plane_weights(box) / power[shell.clamp(max=box // 2)]
    return torch.where((shell == 0) | (shell > box // 2), 0.0, weights)


def _centred_transforms(
    particles: ParticleSet, rows: NDArray[np.int64], box: int, pixel_size: float
) -> Complex[Tensor, "b n half"]:
    """Low frequencies of images of unit variance, the molecule's centre as phase origin, (b, box,
    box // 2 + 1).
    """
    images = torch.from_numpy(particles.images(rows))
    images = (images - images.mean(dim=(1, 2), keepdim=True)) / images.std(
        dim=(1, 2), keepdim=True
    ).clamp(min=1e-12)
    transforms = crop_fourier(centred_rfft2(images), images.shape[-1], box)
    return shift_fourier(
        transforms, torch.from_numpy(-particles.shift_angstrom[rows] / pixel_size).float()
    )
