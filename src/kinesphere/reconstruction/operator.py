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

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kinesphere.fourier import fourier_grid, radial_shell_index
from kinesphere.imaging.pose import project_points
from kinesphere.kernels import bspline
from kinesphere.kernels.voxels import Views, VoxelLattice, pull, push
from kinesphere.reconstruction.support import Support

OVERSAMPLING = 2


class DeformedProjector:
    """A and Aᵀ for the voxels of a support, with images on the Fourier half plane below Nyquist.

    Parameters
    ----------
    support
        The voxels, and the nodes their displacement is given on.
    device
        Where images are computed.
    """

    def __init__(self, support: Support, device: torch.device | str = "cpu") -> None:
        self.support = support
        self.device = torch.device(device)
        self.box = support.grid.box
        self.size = OVERSAMPLING * self.box
        self._lattice = VoxelLattice(support.runs, support.cells, support.spacing_px, self.device)
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
        grids = push(density.float(), views, self.size, self._lattice)
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
        return pull(self._oversample(images), views, self._lattice)

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


def below_nyquist(box: int, device: torch.device | str = "cpu") -> Float[Tensor, "n half"]:
    """One for coefficients of shells 0 … n/2 − 1, zero for the others."""
    return (radial_shell_index(box, device) < box // 2).float()


def _deconvolution(box: int, size: int, device: torch.device) -> Tensor:
    """(n, n // 2 + 1): one over the spline's transform, below Nyquist; its sign puts the phase
    origin at N // 2.
    """
    ky, kx = fourier_grid(box, device, torch.float64)
    along_y, along_x = (
        torch.from_numpy(bspline.transform(k.cpu().numpy() * box / size)).to(device)
        for k in (ky, kx)
    )
    alternating = torch.cos(math.pi * torch.round((ky + kx) * box))
    return (alternating / (along_y * along_x)).float() * below_nyquist(box, device)
