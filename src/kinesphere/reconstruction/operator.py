"""Eq. 6 of DynaMight as one linear operator: from voxels that move to the images of them, and its
exact transpose.

A voxel x of the support is a point that image i shows at Project(R_i (x + δ(z_i, x))). The image is
the sum of those points, a type-1 non-uniform Fourier transform; its transpose samples an image at
the same places, a type-2 transform. Both use a grid of twice the image's box and a cubic B-spline,
whose own transform is divided out. Voxels taken as points lose nothing: below Nyquist the transform
of a sampled map is that of the map, whatever the orientation, and a smooth motion keeps that so
(the integral over moved matter is a sum over voxels that oscillates below their Nyquist frequency).
An interpolating basis would only add an envelope that has to be divided out again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kinesphere.fourier import fourier_grid, half_plane_weights, radial_shell_index
from kinesphere.imaging.pose import project_points
from kinesphere.kernels import voxels as voxel_kernels
from kinesphere.kernels.compiled import gpu_kernels, over_rows
from kinesphere.reconstruction.support import Support

OVERSAMPLING = 2
_ON_GPU = "kinesphere.kernels.voxels_triton"
_TAPS = 4


@dataclass(frozen=True, eq=False)
class Views:
    """How some images look at the support: oversampled-pixel positions are linear in the voxel
    index, plus motion.

    Parameters
    ----------
    base, axes
        (b, 2) projected position of voxel (0, 0, 0), and (b, 3, 2) steps along x, y, z, in
        oversampled pixels.
    node_xy
        (b, n_nodes, 2) projected displacement of the nodes, in oversampled pixels.
    """

    base: Float[Tensor, "b 2"]
    axes: Float[Tensor, "b 3 2"]
    node_xy: Float[Tensor, "b nodes 2"]

    def __len__(self) -> int:
        return int(self.base.shape[0])


class DeformedProjector:
    """A and Aᵀ for the voxels of a support, with images on the Fourier half plane below Nyquist.

    Parameters
    ----------
    support
        The voxels, and the nodes their displacement is given on.
    device
        Where images are computed: by compiled loops on the processor, and on a GPU where there is
        Triton; else by PyTorch's own operations.
    """

    def __init__(self, support: Support, device: torch.device | str = "cpu") -> None:
        self.support = support
        self.device = torch.device(device)
        self.box = support.grid.box
        self.size = OVERSAMPLING * self.box
        self._factor = _deconvolution(self.box, self.size, self.device)

    def views(
        self, rotation: Float[Tensor, "b 3 3"], displacement: Float[Tensor, "b nodes 3"]
    ) -> Views:
        """Prepare images of given poses and node displacements (in Å, box centre at zero)."""
        return self.views_of_seen(rotation, project_points(displacement.float(), rotation.float()))

    def views_of_seen(
        self, rotation: Float[Tensor, "b 3 3"], seen: Float[Tensor, "b nodes 2"]
    ) -> Views:
        """Prepare images of given poses, and node displacements as they show them (projected, in
        Å).
        """
        per_angstrom = OVERSAMPLING / self.support.grid.pixel_size_angstrom
        axes = rotation[:, :, :2].float() * OVERSAMPLING  # voxel steps, in oversampled pixels
        centre = self.size // 2
        base = centre - (self.box // 2) * axes.sum(1)
        return Views(
            base.contiguous(), axes.contiguous(), (seen.float() * per_angstrom).contiguous()
        )

    def project(
        self, density: Float[Tensor, " voxels"], views: Views
    ) -> Complex[Tensor, "b n half"]:
        """Images of the density: A. Unnormalised transforms, phase origin at the image centre,
        without CTF.
        """
        grids = self._push(density, views)
        half = self.box // 2
        transform = torch.fft.rfft(grids)[..., : half + 1]
        transform = torch.fft.fft(transform, dim=-2)
        kept = torch.cat([transform[:, : self.box - half], transform[:, self.size - half :]], dim=1)
        return kept * self._factor

    def backproject(
        self, images: Complex[Tensor, "b n half"], views: Views
    ) -> Float[Tensor, " voxels"]:
        """Sum over images of what they show at each voxel's moved position: Aᵀ, in double
        precision.
        """
        return self._pull(self._oversample(images), views)

    def normal(
        self, density: Float[Tensor, " voxels"], precision: Float[Tensor, "b n half"], views: Views
    ) -> Float[Tensor, " voxels"]:
        """Project, weight, backproject: AᵀΛA."""
        return self.backproject(self.project(density, views) * precision, views)

    def _oversample(self, images: Tensor) -> Tensor:
        """Fourier images, divided by the spline's transform, on the oversampled pixel grid (b, N,
        N).
        """
        half = self.box // 2
        scaled = images * self._factor
        gap = scaled.new_zeros(len(scaled), self.size - self.box, half + 1)
        rows = torch.cat([scaled[:, : self.box - half], gap, scaled[:, self.box - half :]], dim=1)
        columns = torch.fft.ifft(rows, dim=1, norm="forward")
        return torch.fft.irfft(columns, n=self.size, dim=-1, norm="forward")

    def _pull(self, grids: Tensor, views: Views) -> Tensor:
        if self.device.type != "cpu":
            if on_gpu := gpu_kernels(_ON_GPU, grids):
                return on_gpu.pull(grids, views, self._voxels, self._cells, self.support.spacing_px)
            return pull_reference(grids, views, self._voxels, self._corners)
        total = np.zeros(self.support.n_voxels)
        support = self.support
        arrays = [
            view.numpy() for view in (grids.contiguous(), views.base, views.axes, views.node_xy)
        ]

        def pull_rows(part: slice) -> None:
            voxel_kernels.pull(
                total, *arrays, support.runs[part], support.cells, support.spacing_px
            )

        over_rows(pull_rows, len(support.runs), len(views) * support.n_voxels // len(support.runs))
        return torch.from_numpy(total)

    def _push(self, density: Tensor, views: Views) -> Tensor:
        if self.device.type != "cpu":
            if on_gpu := gpu_kernels(_ON_GPU, views.base):
                return on_gpu.push(
                    density, views, self.size, self._voxels, self._cells, self.support.spacing_px
                )
            return push_reference(density, views, self.size, self._voxels, self._corners)
        grids = np.empty((len(views), self.size, self.size), dtype=np.float32)
        support = self.support
        values = density.float().contiguous().numpy()
        arrays = [view.numpy() for view in (views.base, views.axes, views.node_xy)]

        def push_images(part: slice) -> None:
            of_images = (array[part] for array in arrays)
            voxel_kernels.push(
                grids[part], values, *of_images, support.runs, support.cells, support.spacing_px
            )

        over_rows(push_images, len(views), support.n_voxels)
        return torch.from_numpy(grids)

    @cached_property
    def _voxels(self) -> Tensor:
        return torch.from_numpy(self.support.voxels_px.copy()).to(self.device)

    @cached_property
    def _cells(self) -> Tensor:
        return torch.from_numpy(self.support.cells).to(self.device)

    @cached_property
    def _corners(self) -> tuple[Tensor, Tensor]:
        return trilinear_corners(self.support, self.device)


def trilinear_corners(
    support: Support, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Nodes at the corners of each voxel's cell, (n_voxels, 8), and their trilinear weights."""
    voxel = support.voxels_px
    cell, rest = np.divmod(voxel, support.spacing_px)
    fraction = rest / support.spacing_px
    numbers = []
    weights = []
    for corner in np.ndindex(2, 2, 2):  # x, y, z
        at = cell + np.array(corner)
        numbers.append(support.cells[at[:, 2], at[:, 1], at[:, 0]])
        weights.append(np.where(np.array(corner) == 1, fraction, 1.0 - fraction).prod(1))
    number = torch.from_numpy(np.stack(numbers, 1)).to(device)
    return number, torch.from_numpy(np.stack(weights, 1)).float().to(device)


def pull_reference(
    grids: Float[Tensor, "b N N"], views: Views, voxels: Tensor, corners: tuple[Tensor, Tensor]
) -> Float[Tensor, " voxels"]:
    """Sample each image at the moved, projected voxels and add up: the reference of
    `voxel_kernels.pull`.
    """
    total = torch.zeros(len(voxels), dtype=torch.float64, device=grids.device)
    for image in range(len(grids)):
        index, weight = _footprint(views, image, grids.shape[-1], voxels, corners)
        total += (grids[image].flatten()[index] * weight).sum((1, 2))
    return total


def push_reference(
    values: Float[Tensor, " voxels"],
    views: Views,
    size: int,
    voxels: Tensor,
    corners: tuple[Tensor, Tensor],
) -> Float[Tensor, "b N N"]:
    """Spread the voxels onto each image: the reference of `voxel_kernels.push`."""
    grids = torch.zeros(len(views), size * size, device=values.device)
    for image in range(len(grids)):
        index, weight = _footprint(views, image, size, voxels, corners)
        grids[image].index_add_(
            0, index.flatten(), (values.float()[:, None, None] * weight).flatten()
        )
    return grids.reshape(-1, size, size)


def _footprint(
    views: Views, image: int, size: int, voxels: Tensor, corners: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Grid points under each voxel's spline, (n_voxels, 4, 4) flat indices, and their weights."""
    number, fraction = corners
    motion = (views.node_xy[image][number] * fraction[..., None]).sum(1)
    place = views.base[image] + voxels.float() @ views.axes[image] + motion  # (n_voxels, 2) xy
    low = torch.floor(place)
    weight = cubic_weights(place - low)
    tap = torch.remainder(
        low.long()[..., None] + torch.arange(-1, _TAPS - 1, device=place.device), size
    )
    index = tap[:, 1, :, None] * size + tap[:, 0, None, :]
    return index, weight[:, 1, :, None] * weight[:, 0, None, :]


def cubic_weights(fraction: Float[Tensor, "*p"]) -> Float[Tensor, "*p 4"]:
    """Cubic B-spline at the taps −1, 0, 1, 2 of points that lie `fraction` above tap 0."""
    offset = (fraction[..., None] - torch.arange(-1.0, _TAPS - 1.0, device=fraction.device)).abs()
    near = 2.0 / 3.0 - offset**2 + offset**3 / 2.0
    return torch.where(offset < 1.0, near, (2.0 - offset).clamp_min(0.0) ** 3 / 6.0)


def below_nyquist(box: int, device: torch.device | str = "cpu") -> Float[Tensor, "n half"]:
    """One for coefficients of shells 0 … n/2 − 1, zero for the others."""
    return (radial_shell_index(box, device) < box // 2).float()


def image_product(left: Complex[Tensor, "b n half"], right: Complex[Tensor, "b n half"]) -> float:
    """Inner product of half-plane images over the full plane."""
    weight = half_plane_weights(left.shape[-2], dtype=torch.float64)
    return float(((left.conj() * right).real.double() * weight).sum())


def _deconvolution(box: int, size: int, device: torch.device) -> Tensor:
    """(n, n // 2 + 1): one over the spline's transform, below Nyquist; its sign puts the phase
    origin at N // 2.
    """
    ky, kx = fourier_grid(box, device, torch.float64)
    spline = (torch.sinc(ky * box / size) * torch.sinc(kx * box / size)) ** _TAPS
    alternating = torch.cos(math.pi * torch.round((ky + kx) * box))
    return (alternating / spline).float() * below_nyquist(box, device)
