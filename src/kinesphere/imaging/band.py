"""The Fourier coefficients that are compared with images: a disk of the half plane, sorted by
resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.fourier import fourier_grid, half_plane_weights, radial_shell_index
from kinesphere.imaging.gaussians import RenderGrid


@dataclass(frozen=True)
class FourierBand:
    """The coefficients of resolution shells 1 … n_shells of a box, from low to high resolution.

    Because they are sorted, the band of a coarser training stage is a prefix of the band of a finer
    one. The mean of the image (shell 0) is left out: normalisation sets it arbitrarily.

    Parameters
    ----------
    field_of_view_angstrom
        Box size × pixel size: sets the width of a shell.
    shell
        (m,) shell of each coefficient.
    row, column
        (m,) integer frequencies ky, kx in cycles per field of view.
    multiplicity
        (m,) 1 or 2: how often the coefficient occurs in the full plane.
    """

    field_of_view_angstrom: float
    shell: Int[Tensor, " m"]
    row: Int[Tensor, " m"]
    column: Int[Tensor, " m"]
    multiplicity: Float[Tensor, " m"]

    @classmethod
    def of_grid(cls, grid: RenderGrid, n_shells: int | None = None) -> FourierBand:
        """Make the band of shells 1 … n_shells (all below Nyquist if none is given) of a box."""
        last = min(n_shells or grid.box, grid.box // 2 - 1)
        shell = radial_shell_index(grid.box)
        ky, kx = fourier_grid(grid.box)
        inside = (shell >= 1) & (shell <= last)
        order = torch.argsort(shell[inside], stable=True)

        def pick(values: Tensor) -> Tensor:
            return values[inside][order]

        rows, columns = (pick(torch.round(k * grid.box).long()) for k in (ky, kx))
        weights = pick(half_plane_weights(grid.box))
        return cls(grid.box * grid.pixel_size_angstrom, pick(shell), rows, columns, weights)

    def __len__(self) -> int:
        """Return the number of coefficients."""
        return int(self.shell.shape[0])

    @property
    def n_shells(self) -> int:
        """Number of the last shell."""
        return int(self.shell[-1])

    def coarser(self, n_shells: int) -> FourierBand:
        """Return the part of the band up to a lower resolution."""
        keep = int((self.shell <= n_shells).sum())
        arrays = (self.shell[:keep], self.row[:keep], self.column[:keep], self.multiplicity[:keep])
        return FourierBand(self.field_of_view_angstrom, *arrays)

    def coarser_to(self, n_coefficients: int) -> FourierBand:
        """Return the part of the band that holds its first coefficients."""
        return (
            self
            if n_coefficients == len(self)
            else self.coarser(int(self.shell[n_coefficients - 1]))
        )

    def to(self, device: torch.device | str) -> FourierBand:
        """Return a copy on another device."""
        arrays = (v.to(device) for v in (self.shell, self.row, self.column, self.multiplicity))
        return FourierBand(self.field_of_view_angstrom, *arrays)

    def frequencies(self) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Spatial frequencies (sx, sy) of the coefficients in 1/Å."""
        return self.column / self.field_of_view_angstrom, self.row / self.field_of_view_angstrom

    def smallest_grid(self) -> RenderGrid:
        """Smallest even box that holds the band, with the same field of view."""
        box = 2 * (self.n_shells + 1)
        return RenderGrid(box, self.field_of_view_angstrom / box)

    def flat_index(self, box: int) -> Int[Tensor, " m"]:
        """Where the coefficients are in a flattened (box, box // 2 + 1) half plane."""
        return torch.remainder(self.row, box) * (box // 2 + 1) + self.column

    def select(self, half_plane: Tensor) -> Tensor:
        """Take the band out of half-plane images (…, box, box // 2 + 1); returns (…, m)."""
        return half_plane.flatten(-2).index_select(-1, self.flat_index(half_plane.shape[-2]))

    def sum_by_shell(self, values: Float[Tensor, "*b m"]) -> Float[Tensor, "*b shells"]:
        """Sum real values (…, m) over each shell, counting multiplicity; returns (…, n_shells + 1),
        shell 0 empty.
        """
        return values @ self._shell_weights.to(values)

    @cached_property
    def _shell_weights(self) -> Tensor:
        """(m, n_shells + 1) multiplicity of each coefficient in the column of its shell: sums as
        one matrix product.
        """
        weights = self.multiplicity.new_zeros(len(self), self.n_shells + 1)
        return weights.scatter_(1, self.shell[:, None], self.multiplicity[:, None])
