"""How exactly the inverse of a run's motion undoes it, and the consensus map in any state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import ndimage

from kinesphere.io.mrc import DensityMap
from kinesphere.motion.inverse import invert
from kinesphere.runs.run import Run

_POINTS = 4000


@dataclass(frozen=True)
class RoundTrip:
    """|Γ⁻¹(Γ(x)) − x| at points of the molecule, for some images.

    Parameters
    ----------
    images
        (m,) rows of the particle set.
    points
        (q, 3) Å, the box centre at zero.
    error_angstrom
        (m, q).
    """

    images: Int[np.ndarray, " m"]
    points: Float[np.ndarray, "q 3"]
    error_angstrom: Float[np.ndarray, "m q"]

    @property
    def median(self) -> float:
        """Median over points and images, in Å."""
        return float(np.median(self.error_angstrom))

    @property
    def percentile_99(self) -> float:
        """99th percentile over points and images, in Å."""
        return float(np.percentile(self.error_angstrom, 99))


def measure_round_trip(
    run: Run,
    points: Float[np.ndarray, "p 3"],
    images: Int[np.ndarray, " m"],
    advance: Callable[[int], None] = lambda _: None,
    seed: int = 0,
) -> RoundTrip:
    """Carry points to the states of some images and back.

    Parameters
    ----------
    run
        A finished run whose motion carries points by where they are.
    points
        (p, 3) Å, the box centre at zero: voxels inside the molecule. Of more than 4,000 a random
        sample is taken.
    images
        (m,) rows of the particle set.
    advance
        Called with the number of images done since the last call.
    seed
        Of the sample.
    """
    if len(points) > _POINTS:
        points = points[
            np.sort(np.random.default_rng(seed).choice(len(points), _POINTS, replace=False))
        ]
    places = torch.as_tensor(points, dtype=torch.float32)
    owner = torch.zeros(len(places), dtype=torch.int64)
    errors = []
    for image in images:
        motion, z = run.motion_of(int(image))
        with torch.no_grad():
            moved = motion.move(z[None], places, owner)[0]
        errors.append((invert(motion, z, moved).points - places).norm(dim=1).numpy())
        advance(1)
    return RoundTrip(images, points, np.stack(errors))


def map_in_state(
    run: Run, density: DensityMap, inside: NDArray[np.bool_], image: int, margin_angstrom: float
) -> NDArray[np.float32]:
    """Deform the consensus map into the state of an image: f_z(y) = f(Γ_z⁻¹(y)), with cubic
    interpolation.

    Parameters
    ----------
    run
        A finished run whose motion carries points by where they are.
    density
        The consensus map.
    inside
        (n, n, n) where it is molecule; what is further than the margin from where that goes stays
        zero.
    image
        Row of the particle set.
    margin_angstrom
        How far around the molecule the map is made.

    Returns
    -------
    ndarray
        (n, n, n) indexed [z, y, x], in the frame of the map.
    """
    n = density.box_px
    step = density.pixel_size_angstrom
    motion, z = run.motion_of(image)
    with torch.no_grad():
        places = torch.as_tensor(_positions(np.argwhere(inside), n, step), dtype=torch.float32)
        moved = motion.move(z[None], places, torch.zeros(len(places), dtype=torch.int64))[0].numpy()
    cells = np.rint(moved[:, ::-1] / step).astype(int) + n // 2
    reached = np.zeros((n, n, n), dtype=bool)
    reached[tuple(cells[((cells >= 0) & (cells < n)).all(1)].T)] = True
    near = ndimage.distance_transform_edt(~reached) * step <= margin_angstrom
    index = np.argwhere(near)
    source = invert(
        motion, z, torch.as_tensor(_positions(index, n, step), dtype=torch.float32)
    ).points.numpy()
    values = ndimage.map_coordinates(density.data, source[:, ::-1].T / step + n // 2, order=3)
    deformed = np.zeros((n, n, n), dtype=np.float32)
    deformed[tuple(index.T)] = values
    return deformed


def _positions(index: NDArray[np.int64], n: int, step: float) -> NDArray[np.float64]:
    """Voxel indices [z, y, x] to xyz in Å, the centre of the box at zero."""
    return np.ascontiguousarray((index - n // 2)[:, ::-1] * step)
