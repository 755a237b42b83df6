"""The electron scattering potential of atoms: tabulated form factors, projections and maps.

Nothing here is used to fit images: inference has its own, coarser model, so a simulated set tests
it fairly.
"""

from __future__ import annotations

import gemmi
import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.fourier import crop_fourier, fourier_grid
from kinesphere.imaging.gaussians import RenderGrid, render_points
from kinesphere.imaging.pose import project_points

# The renderer's error falls steeply below its Nyquist frequency; at twice the band 0.0008 is left
# at the band's edge.
_FINER = 2
_HEAVIEST_ELEMENT = 98
_ATOMS_AT_ONCE = 256
_LOW_PASS_EDGE_SHELLS = 3


def form_factor(
    atomic_number: int, frequency_per_angstrom: NDArray[np.float64], b_factor_angstrom2: float
) -> NDArray[np.float64]:
    """Evaluate the elastic electron scattering factor of a neutral atom that vibrates
    isotropically.

    f(k) = Σᵢ aᵢ exp(−bᵢ k² / 4) · exp(−B k² / 4), i = 1…5, with |k| = 2 sin θ / λ.

    Parameters
    ----------
    atomic_number
        1 (H) to 98 (Cf).
    frequency_per_angstrom
        |k| of any shape.
    b_factor_angstrom2
        Temperature factor B in Å².

    Returns
    -------
    ndarray
        f in Å, of the shape of the frequencies. Times 47.878 V Å² it is the transform of the
        potential in V.

    References
    ----------
    Peng, Ren, Dudarev & Whelan (1996), Acta Cryst. A52, 257–276, doi:10.1107/S0108767395014371; the
    coefficients are table 4.3.2.2 of International Tables for Crystallography C, as gemmi carries
    them.
    """
    table = gemmi.Element(atomic_number).c4322
    squared = np.asarray(frequency_per_angstrom, dtype=np.float64) ** 2
    terms = [
        a * np.exp(-(b + b_factor_angstrom2) * squared / 4)
        for a, b in zip(table.a, table.b, strict=True)
    ]
    return np.sum(terms, axis=0)


def require_known_elements(atomic_number: NDArray[np.int64], source: str) -> None:
    """Raise InputError where an atom's element has no scattering factor."""
    for number in np.unique(atomic_number):
        if not 1 <= number <= _HEAVIEST_ELEMENT:
            name = gemmi.Element(int(number)).name
            raise InputError(
                source,
                f"no electron scattering factor for element '{name}'",
                "Correct the element column",
            )


class AtomProjector:
    """Projects the potential of one molecule, for images of one box and pixel size.

    The projection is band-limited to frequencies below Nyquist, like an image cropped in Fourier
    space. Each element's atoms are spread once; their common form factor multiplies the transform.

    Parameters
    ----------
    atomic_number
        (n_atoms,).
    box
        Even box size in pixels.
    pixel_size_angstrom
        Å per pixel.
    b_factor_angstrom2
        Temperature factor of all atoms.
    """

    def __init__(
        self,
        atomic_number: NDArray[np.int64],
        box: int,
        pixel_size_angstrom: float,
        b_factor_angstrom2: float,
    ) -> None:
        self.box = box
        self.pixel_size_angstrom = pixel_size_angstrom
        self._grid = RenderGrid(box * _FINER, pixel_size_angstrom / _FINER)
        ky, kx = fourier_grid(box, dtype=torch.float64)
        frequency = torch.hypot(kx, ky).numpy() / pixel_size_angstrom
        self._atoms = {
            int(e): torch.from_numpy(np.flatnonzero(atomic_number == e))
            for e in np.unique(atomic_number)
        }
        # At the Nyquist frequency a real image cannot tell +k from -k; shifts and CTF could not act
        # on it.
        below_nyquist = (ky.abs() < 0.5) & (kx < 0.5)
        self._factors = {
            element: torch.from_numpy(form_factor(element, frequency, b_factor_angstrom2)).float()
            * below_nyquist
            for element in self._atoms
        }

    def __call__(
        self, positions: Float[Tensor, "b p 3"], rotation: Float[Tensor, "b 3 3"]
    ) -> Complex[Tensor, "b n half"]:
        """Transform of the projected potential.

        Parameters
        ----------
        positions
            (n_images, n_atoms, 3) Å, the box centre at zero.
        rotation
            (n_images, 3, 3) R with x_image = Rᵀ · x_volume.

        Returns
        -------
        Tensor
            (n_images, box, box // 2 + 1) in Å: Σⱼ fⱼ(k) exp(−2πi k·xⱼ), phase origin at pixel box
            // 2. The sum of the image is Σⱼ fⱼ(0).
        """
        points = project_points(positions, rotation)
        total = torch.zeros(len(points), self.box, self.box // 2 + 1, dtype=torch.complex64)
        for element, atoms in self._atoms.items():
            finer = render_points(
                points[:, atoms].float().contiguous(), torch.ones(len(atoms)), self._grid
            )
            total += crop_fourier(finer, self._grid.box, self.box) * self._factors[element]
        return total * _FINER**2


def potential_map(
    positions: NDArray[np.float64],
    atomic_number: NDArray[np.int64],
    box: int,
    pixel_size_angstrom: float,
    b_factor_angstrom2: float,
    low_pass_angstrom: float | None = None,
) -> NDArray[np.float32]:
    """Compute the potential on a grid by the direct Fourier sum over atoms, exact within the band.

    Parameters
    ----------
    positions
        (n_atoms, 3) xyz in Å, the centre of voxel box // 2 at zero.
    atomic_number
        (n_atoms,).
    box
        Even edge in voxels.
    pixel_size_angstrom
        Edge of a voxel.
    b_factor_angstrom2
        Temperature factor of all atoms.
    low_pass_angstrom
        Resolution beyond which nothing is kept, with a soft edge; None keeps all below the grid's
        Nyquist frequency.

    Returns
    -------
    ndarray
        (box, box, box) float32 indexed `[z, y, x]`, in 1/Å² (times 47.878 V Å²: the potential in
        V).
    """
    extent = box * pixel_size_angstrom
    coarse = (
        box
        if low_pass_angstrom is None
        else min(box, 2 * int(np.ceil(extent / low_pass_angstrom)) + 2)
    )
    shells = np.fft.fftfreq(coarse, 1 / coarse).astype(np.float64)
    half = np.arange(coarse // 2 + 1)
    radius = np.sqrt(shells[:, None, None] ** 2 + shells[None, :, None] ** 2 + half**2)
    coefficients = np.zeros(radius.shape, dtype=np.complex128)
    for element in np.unique(atomic_number):
        atoms = positions[atomic_number == element] / extent
        coefficients += form_factor(int(element), radius / extent, b_factor_angstrom2) * _phase_sum(
            atoms, shells, half
        )
    coefficients[coarse // 2] = 0
    coefficients[:, coarse // 2] = 0
    coefficients[..., coarse // 2] = 0
    if low_pass_angstrom is not None:
        coefficients *= _soft_low_pass(radius, extent / low_pass_angstrom)
    padded = np.zeros((box, box, box // 2 + 1), dtype=np.complex128)
    rows = shells.astype(int)
    padded[np.ix_(rows, rows, half)] = coefficients
    density = np.fft.irfftn(padded, s=(box, box, box), axes=(0, 1, 2)) / pixel_size_angstrom**3
    return np.fft.fftshift(density).astype(np.float32)


def _phase_sum(
    fractional: NDArray[np.float64], shells: NDArray[np.float64], half: NDArray[np.int64]
) -> NDArray[np.complex128]:
    """Σⱼ exp(−2πi h·xⱼ) for integer h on the half volume, as a product of one factor an axis; x in
    box lengths.
    """
    total = np.zeros((len(shells) ** 2, len(half)), dtype=np.complex64)
    for first in range(0, len(fractional), _ATOMS_AT_ONCE):
        x, y, z = fractional[first : first + _ATOMS_AT_ONCE].T[:, :, None]
        wave_x, wave_y, wave_z = (
            np.exp(-2j * np.pi * c * h) for c, h in ((x, half), (y, shells), (z, shells))
        )
        plane = (wave_z[:, :, None] * wave_y[:, None, :]).reshape(len(x), -1).astype(np.complex64)
        total += plane.T @ wave_x.astype(np.complex64)
    return total.reshape(len(shells), len(shells), len(half)).astype(np.complex128)


def _soft_low_pass(radius: NDArray[np.float64], cut: float) -> NDArray[np.float64]:
    """One inside, zero beyond `cut` shells, a raised cosine over the last three shells."""
    ramp = np.clip((cut - radius) / _LOW_PASS_EDGE_SHELLS, 0, 1)
    return (1 - np.cos(np.pi * ramp)) / 2
