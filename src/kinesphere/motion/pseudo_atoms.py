"""Gaussian pseudo-atoms that stand for a map: placed inside its threshold, then fitted to it
(DynaMight eq. 8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.kernels.rendering import render_coefficients
from kinesphere.runtime import atomic_write

_VOXELS_PER_RESOLUTION = 3.0
_SOLVENT_RADIUS = 0.46  # of the box: beyond it, a particle's map is solvent
_NOISE_SIGMAS = 4.0
# Of the mean density inside: half occupied regions stay, the halo of a blurred map does not.
_LEVEL = 0.35
_SMALLEST_PIECE = 0.01
_VOLUME_ANGSTROM3 = 110.0
_LLOYD_ROUNDS = 12
_FIT_STEPS = 120
_VIEWS = 48
_VIEWS_A_STEP = 8
_MARGIN_ANGSTROM = 4.0


@dataclass(frozen=True)
class PseudoAtoms:
    """A map as a sum of Gaussians; the centre of the box is zero.

    Parameters
    ----------
    positions
        (g, 3) in Å: c of eq. 8.
    amplitude
        (classes, g) integrated density: a_j d_ji of eq. 8, one row a class of width.
    width_angstrom
        (classes,) standard deviations.
    edges
        (e, 2) bonds where an atomic model gave them; empty where neighbours are to be found.
    """

    positions: Float[Tensor, "g 3"]
    amplitude: Float[Tensor, "classes g"]
    width_angstrom: Float[Tensor, " classes"]
    edges: Tensor

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        arrays = {
            name: getattr(self, name).numpy()
            for name in ("positions", "amplitude", "width_angstrom", "edges")
        }
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> PseudoAtoms:
        """Read what `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = ("positions", "amplitude", "width_angstrom", "edges")
                return cls(*(torch.from_numpy(stored[name]) for name in names))
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                path, "holds no pseudo-atoms", "Run the training command again"
            ) from error


@dataclass(frozen=True)
class Solid:
    """The part of a low-pass filtered map that is molecule, on a grid coarsened to its resolution.

    Parameters
    ----------
    density
        (n, n, n) indexed [z, y, x], the centre of the box at voxel n // 2.
    inside
        (n, n, n) above the threshold.
    step_angstrom
        Voxel size.
    threshold
        Density at the boundary.
    """

    density: NDArray[np.float64]
    inside: Bool[np.ndarray, "n n n"]
    step_angstrom: float
    threshold: float

    @property
    def volume_angstrom3(self) -> float:
        """Volume inside."""
        return float(self.inside.sum()) * self.step_angstrom**3

    def voxels(
        self, margin_angstrom: float = 0.0
    ) -> tuple[Float[np.ndarray, "v 3"], Float[np.ndarray, " v"]]:
        """Positions (xyz, Å) and density of the voxels inside, or up to a margin outside."""
        inside = self.inside
        if margin_angstrom > 0:
            inside = ndimage.distance_transform_edt(~inside) * self.step_angstrom <= margin_angstrom
        index = np.argwhere(inside)
        positions = (index - inside.shape[0] // 2)[:, ::-1] * self.step_angstrom
        return np.ascontiguousarray(positions), self.density[tuple(index.T)]


def find_solid(
    data: Float[np.ndarray, "n n n"],
    pixel_size_angstrom: float,
    resolution_angstrom: float,
    source: Path | str,
    threshold: float | None = None,
) -> Solid:
    """Low-pass filter a map and find where it is molecule.

    Without a threshold it is the larger of four standard deviations of the solvent (outside the
    largest sphere) and 0.35 × the mean density above that; pieces below 1% of the largest are
    noise.

    Parameters
    ----------
    data
        (n, n, n) density indexed [z, y, x], positive where the molecule is.
    pixel_size_angstrom
        Of the map.
    resolution_angstrom
        Finest detail that is kept.
    source
        File of the map, for messages.
    threshold
        Density above which there is molecule, in units of the map.

    Raises
    ------
    InputError
        If the molecule is dark, the threshold is above the map's maximum, or nothing is left.
    """
    density, step = low_pass(data, pixel_size_angstrom, resolution_angstrom)
    solvent = density[_radius(density.shape[0]) > _SOLVENT_RADIUS * density.shape[0]]
    level = float(np.median(solvent))
    noise = float(solvent.std())
    if level - density.min() > 1.5 * (density.max() - level):
        raise InputError(source, "is inverted: the molecule is dark", "Multiply the map by -1")
    if threshold is None:
        floor = level + _NOISE_SIGMAS * noise
        above = density[density > floor]
        if above.size == 0:
            raise InputError(
                source, "shows no molecule above its noise", "Check the map, or give --threshold"
            )
        threshold = max(floor, _LEVEL * float(above.mean()))
    elif threshold >= density.max():
        problem = (
            f"{threshold:g} is above the largest density {density.max():.3g} at "
            f"{resolution_angstrom:g} Å"
        )
        raise InputError(
            "--threshold", f"{problem} of {Path(source).name}", "Give a smaller one, or none"
        )
    inside = _large_pieces(density > threshold)
    return Solid(density, inside, step, threshold)


def low_pass(
    data: Float[np.ndarray, "n n n"], pixel_size_angstrom: float, resolution_angstrom: float
) -> tuple[NDArray[np.float64], float]:
    """Filter a map to a resolution (a cosine edge of 20%) on the coarsest grid that holds it.

    Returns
    -------
    tuple
        (m, m, m) density with the same centre, and its voxel size in Å.
    """
    n = data.shape[0]
    extent = n * pixel_size_angstrom
    box = min(n + n % 2, 2 * math.ceil(0.5 * _VOXELS_PER_RESOLUTION * extent / resolution_angstrom))
    spectrum = fft.fftshift(fft.fftn(fft.ifftshift(data.astype(np.float64))))
    cycles = np.arange(n) - n // 2
    kept = np.abs(cycles) < (box + 1) // 2
    spectrum = spectrum[np.ix_(kept, kept, kept)]
    axis = cycles[kept] / extent * resolution_angstrom
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
    spectrum = spectrum * (0.5 + 0.5 * np.cos(np.pi * np.clip((radius - 0.8) / 0.4, 0.0, 1.0)))
    padded = np.zeros((box,) * 3, complex)
    highest = int(cycles[kept].max())
    span = slice(box // 2 - highest, box // 2 + highest + 1)
    padded[span, span, span] = spectrum
    density = fft.fftshift(fft.ifftn(fft.ifftshift(padded))).real * (box / n) ** 3
    return density, extent / box


def default_count(solid: Solid, resolution_angstrom: float) -> int:
    """Return the number of Gaussians unless the user says: one per 110 Å³, or per cube of the
    images' resolution.

    At the automatic threshold the former is about the paper's two a residue; neighbours nearer than
    the finest resolution cannot be told apart by the images.
    """
    share = max(_VOLUME_ANGSTROM3, resolution_angstrom**3)
    return max(int(solid.volume_angstrom3 / share), 10)


def place_pseudo_atoms(solid: Solid, count: int, seed: int) -> Float[np.ndarray, "g 3"]:
    """Spread points over a density: draws from it, then Lloyd's iteration (k-means weighted by
    density).

    Parameters
    ----------
    solid
        Where the molecule is.
    count
        Number of points.
    seed
        Of the draw.

    Returns
    -------
    ndarray
        (count, 3) in Å.

    Raises
    ------
    InputError
        If there are more points than voxels to tell them apart.
    """
    voxels, density = solid.voxels()
    if count > len(voxels):
        problem = (
            f"{count} do not fit into {solid.volume_angstrom3:.0f} Å³ of density "
            f"({len(voxels)} voxels)"
        )
        raise InputError("--n-gaussians", problem, "Give fewer, or lower --threshold")
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(voxels), count, replace=False, p=density / density.sum())
    points = voxels[chosen] + solid.step_angstrom * draw.uniform(-0.5, 0.5, (count, 3))
    for _ in range(_LLOYD_ROUNDS):
        nearest = cKDTree(points).query(voxels)[1]
        weight = np.bincount(nearest, density, count)
        moment = np.stack(
            [np.bincount(nearest, density * voxels[:, axis], count) for axis in range(3)], 1
        )
        points = np.where(weight[:, None] > 0, moment / np.maximum(weight, 1e-12)[:, None], points)
    return np.asarray(points, dtype=np.float64)


def pseudo_atoms_of(
    solid: Solid, count: int, resolution_angstrom: float, n_classes: int, seed: int
) -> PseudoAtoms:
    """Represent a density by Gaussians: place them, then fit positions, amplitude and widths by
    gradient descent.
    """
    points = place_pseudo_atoms(solid, count, seed)
    amplitude = np.full((n_classes, count), 1.0 / (n_classes * count))
    spacing = (solid.volume_angstrom3 / count) ** (1.0 / 3.0)
    width = (
        0.5 * spacing * np.geomspace(0.8, 1.25, n_classes)
        if n_classes > 1
        else np.array([0.5 * spacing])
    )
    start = PseudoAtoms(
        torch.as_tensor(points, dtype=torch.float32),
        torch.as_tensor(amplitude, dtype=torch.float32),
        torch.as_tensor(width, dtype=torch.float32),
        torch.zeros(0, 2, dtype=torch.int64),
    )
    return fit_to_density(start, solid, resolution_angstrom, seed)


def fit_to_density(
    start: PseudoAtoms, solid: Solid, resolution_angstrom: float, seed: int, *, move: bool = True
) -> PseudoAtoms:
    """Fit pseudo-atoms to a density by gradient descent (Adam) on projections in random directions.

    A projection of the density is rendered as that of its voxels, so that map and Gaussians pass
    through the same renderer. Amplitudes keep their ratios within a class; with several classes the
    shares d_ji of eq. 8 are fitted too.

    Parameters
    ----------
    start
        Where to start; its total amplitude is replaced.
    solid
        The density.
    resolution_angstrom
        Finest resolution that is compared.
    seed
        Of the directions.
    move
        Whether positions are fitted.

    Returns
    -------
    PseudoAtoms
        In the density's units: the sum of all amplitudes is its integral where they represent it.
    """
    fit = _Fit(solid, resolution_angstrom, seed)
    positions = start.positions.clone().requires_grad_(move)
    log_width = start.width_angstrom.log().requires_grad_()
    share = torch.zeros_like(start.amplitude).requires_grad_(len(start.width_angstrom) > 1)
    groups = [{"params": [positions], "lr": 0.08}] if move else []
    groups += [{"params": [log_width], "lr": 0.03}]
    groups += [{"params": [share], "lr": 0.1}] if share.requires_grad else []
    optimizer = torch.optim.Adam(groups)
    order = torch.Generator().manual_seed(seed)
    for _ in range(_FIT_STEPS):
        views = torch.randperm(_VIEWS, generator=order)[:_VIEWS_A_STEP]
        optimizer.zero_grad()
        loss, _ = fit.misfit(
            positions, start.amplitude.sum(0) * torch.softmax(share, 0), log_width.exp(), views
        )
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        amplitude = start.amplitude.sum(0) * torch.softmax(share, 0)
        _, scale = fit.misfit(positions, amplitude, log_width.exp(), torch.arange(_VIEWS))
    return replace(
        start,
        positions=positions.detach(),
        amplitude=(scale * amplitude).detach(),
        width_angstrom=log_width.exp().detach(),
    )


class _Fit:
    """Projections of a density in random directions, and how far those of pseudo-atoms are from
    them.
    """

    def __init__(self, solid: Solid, resolution_angstrom: float, seed: int) -> None:
        box = solid.density.shape[0]
        grid = RenderGrid(box, solid.step_angstrom)
        self.band = FourierBand.of_grid(
            grid, max(int(box * solid.step_angstrom / resolution_angstrom), 2)
        )
        self.plan = self.band.smallest_grid().plan(self.band.row, self.band.column)
        sx, sy = self.band.frequencies()
        self.squared = sx**2 + sy**2
        matrices = Rotation.random(_VIEWS, random_state=seed).as_matrix()
        self.rotation = torch.as_tensor(matrices, dtype=torch.float32)
        voxels, density = solid.voxels(_MARGIN_ANGSTROM)
        points = torch.as_tensor(voxels, dtype=torch.float32)
        values = torch.as_tensor(density * solid.step_angstrom**3, dtype=torch.float32)
        views = [
            render_coefficients(points @ r[None, :, :2], values, self.plan) for r in self.rotation
        ]
        self.target = torch.cat(views)

    def misfit(
        self, positions: Tensor, amplitude: Tensor, width: Tensor, views: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Relative squared distance of some projections, the total amplitude being optimal; and
        that amplitude.
        """
        points = positions @ self.rotation[views][:, :, :2]
        envelope = torch.exp(-2.0 * math.pi**2 * width[:, None] ** 2 * self.squared)
        parts = [
            render_coefficients(points, amplitude[j], self.plan) * envelope[j]
            for j in range(len(width))
        ]
        model = torch.stack(parts).sum(0)
        target = self.target[views]
        cross = (
            self.band.multiplicity * (target.real * model.real + target.imag * model.imag)
        ).sum()
        power = (self.band.multiplicity * (model.real**2 + model.imag**2)).sum()
        norm = (self.band.multiplicity * (target.real**2 + target.imag**2)).sum()
        return 1.0 - cross**2 / (power * norm), cross / power


def _large_pieces(inside: Bool[np.ndarray, "n n n"]) -> Bool[np.ndarray, "n n n"]:
    labels, count = ndimage.label(inside)
    if count == 0:
        return inside
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = sizes >= _SMALLEST_PIECE * sizes.max()
    large[0] = False
    return np.asarray(large[labels])


def _radius(n: int) -> NDArray[np.float64]:
    axis = np.arange(n) - n // 2
    return np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
