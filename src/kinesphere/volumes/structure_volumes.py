"""Do the images say what the structures say? Volumes on the latent space against those that the
structures imply.

A kernel volume is a weighted mean over images. The same weighted mean over the images' structures
is what it would show if the structures were right; what differs from the consensus in the one
should differ in the other. Where structures move and the density does not follow, the motion is the
prior's doing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from kinesphere.io.structure import AtomicModel
from kinesphere.reconstruction.fourier_volume import shell_of_volume
from kinesphere.runs.finished_run import RunWithImages
from kinesphere.runtime import atomic_write

_STRUCTURES = 300
_BLUR_ANGSTROM = 2.0
_SMALLEST_RADIUS_ANGSTROM = 8.0
_LARGEST_RADIUS_ANGSTROM = 25.0
_MOVING_ANGSTROM = 1.0
_SUPPORTED = 0.5  # correlation of changes below which density does not follow the structures


@dataclass(frozen=True)
class ResidueAgreement:
    """How well changes of density follow changes of structures, around each residue.

    Parameters
    ----------
    correlation
        (r,) see `agreement`.
    moved
        (r,) Å, RMS displacement of the volumes' mean structures from the mean of all.
    radius_angstrom
        Of the sphere that is compared.
    """

    correlation: Float[np.ndarray, " r"]
    moved: Float[np.ndarray, " r"]
    radius_angstrom: float


def implied_volume(
    run: RunWithImages,
    images: Int[np.ndarray, " m"],
    weight: Float[np.ndarray, " m"],
    box: int,
    pixel: float,
) -> tuple[Float[np.ndarray, "n n n"], Float[np.ndarray, "r 3"]]:
    """Average the densities of the images' structures, a Gaussian a residue.

    Parameters
    ----------
    run
        Has a structure for every image.
    images, weight
        (m,) rows and what each counts; 300 of them stand for all where there are more.
    box, pixel
        Grid of the volume: voxels along an edge, and their size in Å.

    Returns
    -------
    tuple
        (box, box, box) `[z, y, x]`, in electrons a voxel (pseudo-atoms count one each); (r, 3) the
        mean structure in Å.
    """
    some = _systematic(weight, min(len(images), _STRUCTURES))
    positions = run.residues(images[some])
    model = run.model
    electrons = np.bincount(
        model.residue_index, np.maximum(model.atomic_number, 1), minlength=model.n_residues
    )
    place = (positions - run.centre_angstrom) / pixel + box // 2
    grid = _spread(place.reshape(-1, 3), np.tile(electrons, len(some)) / len(some), box)
    return gaussian_filter(grid, _BLUR_ANGSTROM / pixel), positions.mean(axis=0)


def agreement(
    observed: Sequence[Float[np.ndarray, "n n n"]],
    expected: Sequence[Float[np.ndarray, "n n n"]],
    place_px: Float[np.ndarray, "r 3"],
    radius_px: float,
) -> Float[np.ndarray, " r"]:
    """Correlate differences from the consensus around each residue, over all volumes together.

    Parameters
    ----------
    observed, expected
        Differences of volumes from the consensus: of densities, and of what structures imply,
        filtered alike.
    place_px
        (r, 3) xyz where residues lie on the grid, on average.
    radius_px
        Of the sphere around each that is compared.

    Returns
    -------
    ndarray
        (r,) Σ D_V D_S / √(Σ D_V² Σ D_S²) over the sphere and the volumes; 0 where either is
        nothing.
    """
    box = len(observed[0])
    products = np.zeros((3, box, box, box))
    for one, other in zip(observed, expected, strict=True):
        products += np.stack([one * other, one**2, other**2])
    sums = np.stack([_sum_around(products, place, radius_px) for place in place_px], axis=1)
    scale = np.sqrt(sums[1] * sums[2])
    correlation: Float[np.ndarray, " r"] = np.divide(
        sums[0], scale, out=np.zeros_like(scale), where=scale > 0
    )
    return correlation


def _sum_around(
    values: Float[np.ndarray, "c n n n"], place: Float[np.ndarray, " 3"], radius: float
) -> Float[np.ndarray, " c"]:
    """Sum over the voxels within a sphere around a place, xyz."""
    box = values.shape[-1]
    first = np.clip(np.ceil(place - radius), 0, box).astype(int)
    last = np.clip(np.floor(place + radius) + 1, first, box).astype(int)
    squared = [
        (np.arange(a, b) - centre) ** 2 for a, b, centre in zip(first, last, place, strict=True)
    ]
    inside = squared[2][:, None, None] + squared[1][:, None] + squared[0] <= radius**2
    cut = values[:, first[2] : last[2], first[1] : last[1], first[0] : last[0]]
    total: Float[np.ndarray, " c"] = cut[:, inside].sum(axis=1)
    return total


def summarise(residues: ResidueAgreement) -> dict[str, int | float | None]:
    """Say how far density follows the structures where they move: by more than 1 Å between
    volumes.
    """
    moving = residues.moved > _MOVING_ANGSTROM
    return {
        "n": len(moving),
        "n_moving": int(moving.sum()),
        "radius_angstrom": residues.radius_angstrom,
        "correlation_moving_median": float(np.median(residues.correlation[moving]))
        if moving.any()
        else None,
        "n_moving_unsupported": int((residues.correlation[moving] < _SUPPORTED).sum()),
    }


def write_residues(
    path: Path, model: AtomicModel, residues: Mapping[str, ResidueAgreement]
) -> None:
    """Write one row a residue: how far it moves between the volumes of each method, and how well
    their density follows.

    Parameters
    ----------
    path
        CSV file.
    model
        Whose residues they are.
    residues
        By the method that made the volumes.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    of_methods = [
        f"{what}_{method}" for method in residues for what in ("moved_angstrom", "correlation")
    ]
    writer.writerow(["chain", "residue", "insertion_code", "name", *of_methods])
    names = (model.chain, model.residue_number, model.insertion_code, model.residue_name)
    columns = [
        values for result in residues.values() for values in (result.moved, result.correlation)
    ]
    for name, values in zip(zip(*names, strict=True), zip(*columns, strict=True), strict=True):
        writer.writerow([*name, *(f"{value:.4f}" for value in values)])
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def fitting_gain(
    source: Float[np.ndarray, "n n n"], target: Float[np.ndarray, "n n n"]
) -> NDArray[np.float64]:
    """Find the scale of each shell, (n // 2,), with which a map fits another best; nothing below
    zero.
    """
    one, other = (fft.rfftn(x) for x in (source, target))
    cross = _shell_sums((other * one.conj()).real)
    power = _shell_sums(np.abs(one) ** 2)
    return np.divide(cross, power, out=np.zeros_like(cross), where=power > 0).clip(0.0)


def comparison_radius_px(resolution_angstrom: float, pixel: float) -> float:
    """Radius in voxels of what is compared around a residue: what the volumes resolve, from 8 Å to
    a domain's 25 Å.
    """
    return (
        float(np.clip(resolution_angstrom, _SMALLEST_RADIUS_ANGSTROM, _LARGEST_RADIUS_ANGSTROM))
        / pixel
    )


def _systematic(weight: Float[np.ndarray, " n"], number: int) -> Int[np.ndarray, " m"]:
    """Choose rows in proportion to their weights, evenly: no random numbers, and no more spread
    than needed.
    """
    cumulative = np.cumsum(weight, dtype=np.float64)
    at = (np.arange(number) + 0.5) / number * cumulative[-1]
    return np.searchsorted(cumulative, at).clip(0, len(weight) - 1)


def _spread(
    place: Float[np.ndarray, "p 3"], amount: Float[np.ndarray, " p"], box: int
) -> Float[np.ndarray, "n n n"]:
    """Share each point among the eight voxels around it; what lies outside is lost."""
    grid = np.zeros((box, box, box))
    low = np.floor(place).astype(int)
    part = place - low
    for corner in np.ndindex(2, 2, 2):
        voxel = low + corner
        weight = amount * np.prod(np.where(corner, part, 1.0 - part), axis=1)
        inside = ((voxel >= 0) & (voxel < box)).all(axis=1)
        np.add.at(grid, tuple(voxel[inside, ::-1].T), weight[inside])
    return grid


def _shell_sums(values: Float[np.ndarray, "n n half"]) -> Float[np.ndarray, " shells"]:
    box = len(values)
    sums: Float[np.ndarray, " all"] = np.bincount(shell_of_volume(box, box).ravel(), values.ravel())
    return sums[: box // 2].astype(np.float64)
