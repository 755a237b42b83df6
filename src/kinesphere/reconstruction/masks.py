"""Which voxels hold the molecule: an automatic threshold of a map, soft edges, and masks that a
user gives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from kinesphere.errors import InputError
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.io.mrc import read_map

_LOW_PASS_ANGSTROM = 15.0
_LOW_PASS_PX = 4.0
_NOISE_SIGMAS = 5.0
_SMALLEST_FRACTION_OF_PEAK = 0.12
_SOLVENT_RADIUS = 0.85
_EXTEND_ANGSTROM = 3.0
_EDGE_ANGSTROM = 8.0
_SMALLEST_EDGE_PX = 3.0
_TOLERANCE = 0.01


def automatic_mask(
    density: Float[np.ndarray, "n n n"], pixel_size_angstrom: float
) -> Float[np.ndarray, "n n n"]:
    """Make a soft solvent mask from a map, on no other knowledge.

    The map is low-pass filtered; what lies above `solvent_threshold` is kept where it hangs
    together with most of the rest, grown by 3 Å, and given a cosine edge of 8 Å (at least three
    voxels).

    Parameters
    ----------
    density
        (n, n, n) map whose solvent is around zero.
    pixel_size_angstrom
        Edge of a voxel.

    Returns
    -------
    ndarray
        (n, n, n) float32 in [0, 1].
    """
    smooth = low_pass(
        density, max(_LOW_PASS_ANGSTROM, _LOW_PASS_PX * pixel_size_angstrom) / pixel_size_angstrom
    )
    above = smooth > solvent_threshold(smooth)
    return soft_edge(
        _without_specks(above), _EXTEND_ANGSTROM / pixel_size_angstrom, edge_px(pixel_size_angstrom)
    )


def edge_px(pixel_size_angstrom: float) -> float:
    """Width of a mask's cosine edge in voxels: 8 Å, at least three voxels."""
    return max(_EDGE_ANGSTROM / pixel_size_angstrom, _SMALLEST_EDGE_PX)


def solvent_threshold(smooth: Float[np.ndarray, "n n n"]) -> float:
    """Density that solvent does not reach: five σ of the box's outermost shell, or 12 % of the
    peak.

    The larger of the two; the second rules in maps almost without noise. σ is robust (from the
    median absolute deviation), so that matter near the box's edge does not raise it. The peak is
    the 99.9th percentile.
    """
    radius = _radius(smooth.shape[0]) / (smooth.shape[0] / 2)
    solvent = smooth[(radius > _SOLVENT_RADIUS) & (radius < 1.0)]
    level = float(np.median(solvent))
    sigma = 1.4826 * float(np.median(np.abs(solvent - level)))
    peak = float(np.percentile(smooth, 99.9))
    return max(level + _NOISE_SIGMAS * sigma, level + _SMALLEST_FRACTION_OF_PEAK * (peak - level))


def _without_specks(above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop parts smaller than a twentieth of the largest."""
    labels, n_parts = ndimage.label(above)
    if n_parts < 2:
        return above
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: NDArray[np.bool_] = (sizes >= 0.05 * sizes.max())[labels] & above
    return kept


def soft_edge(
    inside: Bool[np.ndarray, "n n n"], extend_px: float, edge_px: float
) -> Float[np.ndarray, "n n n"]:
    """Grow a binary mask and let it fall to zero along a raised cosine.

    Parameters
    ----------
    inside
        (n, n, n).
    extend_px, edge_px
        How far the mask is one, and over what distance beyond it falls, in voxels.

    Returns
    -------
    ndarray
        (n, n, n) float32.
    """
    if not inside.any():
        return np.zeros(inside.shape, np.float32)
    beyond = np.clip((ndimage.distance_transform_edt(~inside) - extend_px) / edge_px, 0.0, 1.0)
    return (0.5 + 0.5 * np.cos(np.pi * beyond)).astype(np.float32)


def sphere_mask(box: int, radius_px: float, edge_px: float) -> Float[np.ndarray, "n n n"]:
    """Return a soft sphere about the box centre: one within the radius less the edge, zero from the
    radius on.
    """
    beyond = np.clip((_radius(box) - radius_px + edge_px) / edge_px, 0.0, 1.0)
    return (0.5 + 0.5 * np.cos(np.pi * beyond)).astype(np.float32)


def near_points(
    points_angstrom: Float[np.ndarray, "p 3"], grid: RenderGrid, distance_angstrom: float
) -> Bool[np.ndarray, "n n n"]:
    """Tell which voxels of a map lie within a distance of any of the points (xyz in Å, the box
    centre at zero).
    """
    inside = np.zeros((grid.box,) * 3, dtype=bool)
    if len(points_angstrom) == 0:
        return inside
    axis = (np.arange(grid.box) - grid.box // 2) * grid.pixel_size_angstrom
    low, high = (
        points_angstrom.min(0) - distance_angstrom,
        points_angstrom.max(0) + distance_angstrom,
    )
    ranges = [np.flatnonzero((axis >= low[c]) & (axis <= high[c])) for c in (2, 1, 0)]  # z, y, x
    if any(rows.size == 0 for rows in ranges):
        return inside
    z, y, x = np.meshgrid(*(axis[rows] for rows in ranges), indexing="ij")
    voxels = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    distance, _ = cKDTree(points_angstrom).query(voxels, distance_upper_bound=distance_angstrom)
    inside[np.ix_(*ranges)] = np.isfinite(distance).reshape(z.shape)
    return inside


def read_mask(path: Path, grid: RenderGrid) -> Float[np.ndarray, "n n n"]:
    """Read a user's mask for maps of a given grid.

    Parameters
    ----------
    path
        MRC map with values in [0, 1].
    grid
        Box and pixel size that it must have.

    Returns
    -------
    ndarray
        (n, n, n) float32.

    Raises
    ------
    InputError
        If it has another box or pixel size, values outside [0, 1], or is empty.
    """
    mask = read_map(path)
    ours = f"{grid.box} px of {grid.pixel_size_angstrom:.4g} Å"
    if (
        mask.box_px != grid.box
        or abs(mask.pixel_size_angstrom / grid.pixel_size_angstrom - 1.0) > _TOLERANCE
    ):
        problem = (
            f"has {mask.box_px} px of {mask.pixel_size_angstrom:.4g} Å, the reconstruction {ours}"
        )
        raise InputError(
            path, problem, "Resample the mask, or leave --mask out: one is made from the map"
        )
    if mask.data.min() < -_TOLERANCE or mask.data.max() > 1.0 + _TOLERANCE:
        problem = (
            f"holds values from {mask.data.min():.3g} to {mask.data.max():.3g}, not from 0 to 1"
        )
        raise InputError(
            path, problem, "Make a mask of it first, for instance with relion_mask_create"
        )
    if not (mask.data > 0.5).any():
        raise InputError(
            path, "is empty: no voxel is above 0.5", "Give a mask that covers the molecule"
        )
    return np.clip(mask.data, 0.0, 1.0)


def low_pass(
    density: Float[np.ndarray, "n n n"], resolution_px: float
) -> Float[np.ndarray, "n n n"]:
    """Low-pass filter a map by a Gaussian that falls to exp(−1) at a resolution given in voxels."""
    n = density.shape[0]
    squared = (
        fft.fftfreq(n)[:, None, None] ** 2 + fft.fftfreq(n)[:, None] ** 2 + fft.rfftfreq(n) ** 2
    ) * resolution_px**2
    spectrum = fft.rfftn(density) * np.exp(-squared)
    smooth: NDArray[np.float64] = fft.irfftn(spectrum, s=density.shape)
    return smooth.astype(np.float32)


def _radius(box: int) -> NDArray[np.float64]:
    """Distance of each voxel from the box centre, in voxels."""
    axis = np.arange(box) - box // 2
    radius: NDArray[np.float64] = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return radius
