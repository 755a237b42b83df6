"""Where the nominal model is: its frame, and whether it is where the map says the molecule is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from kinesphere.errors import InputError
from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.motion.reference import Reference
from kinesphere.particles import ParticleSet

_LOW_RESOLUTION_ANGSTROM = 12.0
_LARGEST_OFFSET_ANGSTROM = 6.0
_FIELD_OF_VIEW_TOLERANCE = 0.02


def find_centre(particles: ParticleSet, map_path: Path | None) -> NDArray[np.float64]:
    """Return where the centre of the particles' box is in the frame of the map, (3,) xyz in Å.

    Without a map it is where RELION's and cryoSPARC's maps have it: voxel n // 2 of a map whose
    first voxel is at zero.

    Raises
    ------
    InputError
        If the map's field of view is not the particles'.
    """
    first = particles.optics[int(particles.optics_group[0])]
    box_px = first.box_px or particles.images([0]).shape[-1]
    if map_path is None:
        return np.full(3, first.pixel_size_angstrom * (box_px // 2))
    density = read_map(map_path)
    extent = density.box_px * density.pixel_size_angstrom
    expected = box_px * first.pixel_size_angstrom
    if abs(extent / expected - 1.0) > _FIELD_OF_VIEW_TOLERANCE:
        problem = f"the map spans {extent:.1f} Å, the particle images {expected:.1f} Å"
        raise InputError(
            map_path, problem, "Give the map reconstructed from these particles, uncropped"
        )
    return density.centre_angstrom


def require_inside(reference: Reference, half_extent_angstrom: float, source: Path) -> None:
    """Refuse a model that lies outside the box.

    Raises
    ------
    InputError
        Saying how far off the model's centre is.
    """
    centre = reference.points.mean(0).numpy()
    outside = float((reference.points.abs() > half_extent_angstrom).any(1).float().mean())
    if outside > 0.02:
        offset = float(np.linalg.norm(centre))
        place = f"its centre is {offset:.0f} Å from the box's"
        problem = f"{outside:.0%} of the model lies outside the particles' box; {place}"
        raise InputError(
            source, problem, "Fit the model into the consensus map and give that map as --map"
        )


def require_fit(reference: Reference, map_path: Path, source: Path) -> None:
    """Refuse a model that would fit the map much better somewhere else.

    Cross-correlates the model, blurred to 12 Å, with the equally blurred map over all translations.

    Raises
    ------
    InputError
        Saying by how much the model is displaced.
    """
    density = read_map(map_path)
    step = density.pixel_size_angstrom
    sigma = _LOW_RESOLUTION_ANGSTROM / (2.0 * step) / 2.0
    model = ndimage.gaussian_filter(_histogram(reference, density), sigma, mode="constant")
    blurred = ndimage.gaussian_filter(np.clip(density.data, 0.0, None), sigma, mode="constant")
    correlation = fft.irfftn(fft.rfftn(blurred) * np.conj(fft.rfftn(model)), s=model.shape)
    best = np.array(np.unravel_index(int(correlation.argmax()), correlation.shape))
    offset = ((best + model.shape[0] // 2) % model.shape[0] - model.shape[0] // 2)[::-1] * step
    if np.linalg.norm(offset) > max(_LARGEST_OFFSET_ANGSTROM, 2.5 * step):
        shift = " ".join(f"{value:+.0f}" for value in offset)
        problem = (
            f"does not lie in {map_path.name}: moved by ({shift}) Å in x y z it would fit better"
        )
        remedy = (
            "Fit it (ChimeraX: fitmap) and save it relative to the map; --ignore-misfit "
            "goes on regardless"
        )
        raise InputError(source, problem, remedy)


def _histogram(reference: Reference, density: DensityMap) -> NDArray[np.float64]:
    """Beads on the grid of the map, (n, n, n) indexed z, y, x."""
    box = density.box_px
    step = density.pixel_size_angstrom
    cell = np.rint(reference.beads.numpy() / step).astype(int) + box // 2
    inside = ((cell >= 0) & (cell < box)).all(1)
    grid = np.zeros((box, box, box))
    np.add.at(grid, tuple(cell[inside][:, ::-1].T), reference.amplitude.numpy()[inside])
    return grid
