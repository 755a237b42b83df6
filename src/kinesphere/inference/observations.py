"""Every particle image as the likelihood needs it: re-centred Fourier coefficients, pose and CTF."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters


@dataclass(frozen=True)
class ParticleBatch:
    """Some images on one Fourier band.

    Parameters
    ----------
    index
        (b,) row of each image among the observations.
    data
        (b, m) Fourier coefficients, the molecule's centre at the phase origin.
    rotation
        (b, 3, 3) R with x_image = Rᵀ · x_volume.
    ctf
        CTF parameters of each image.
    group
        (b,) optics group of each image.
    """

    index: Int[Tensor, " b"]
    data: Complex[Tensor, "b m"]
    rotation: Float[Tensor, "b 3 3"]
    ctf: CtfParameters
    group: Int[Tensor, " b"]

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.index.shape[0])

    def subset(self, rows: Int[Tensor, " k"]) -> ParticleBatch:
        """Return some of the images."""
        return ParticleBatch(self.index[rows], self.data[rows], self.rotation[rows], self.ctf[rows], self.group[rows])


@dataclass(frozen=True)
class Observations:
    """All images of a run, in memory or in a file mapped into it, on the finest Fourier band of the run.

    Parameters
    ----------
    data
        (n, m) complex64; may be backed by a memory-mapped file.
    rotation, ctf, group
        As in `ParticleBatch`.
    band
        The coefficients' band.
    row
        (k,) the images that are meant, where these are not all: half sets share the arrays instead of copying them.
    """

    data: Complex[Tensor, "n m"]
    rotation: Float[Tensor, "n 3 3"]
    ctf: CtfParameters
    group: Int[Tensor, " n"]
    band: FourierBand
    row: Int[Tensor, " k"] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.data.shape[0]) if self.row is None else len(self.row)

    @property
    def n_groups(self) -> int:
        """Number of optics groups among all images, meant or not."""
        return int(self.group.max()) + 1

    def subset(self, index: Int[Tensor, " k"]) -> Observations:
        """Return some of the images; nothing is copied."""
        return replace(self, row=self._rows(index))

    def batch(
        self, index: Int[Tensor, " b"], band: FourierBand | None = None, device: torch.device | str = "cpu"
    ) -> ParticleBatch:
        """Take images by row, on the run's band or a coarser one, onto a device."""
        n_coefficients, row = len(band or self.band), self._rows(index)
        return ParticleBatch(
            index=index.to(device),
            data=self.data[:, :n_coefficients].index_select(0, row).to(device),
            rotation=self.rotation[row].to(device),
            ctf=self.ctf[row].to(device),
            group=self.group[row].to(device),
        )

    def _rows(self, index: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        return index if self.row is None else self.row[index]
