"""Every particle image as the likelihood needs it: re-centred Fourier coefficients, pose and
CTF.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters
from kinesphere.observations.coefficients import HalfCoefficients, Pages
from kinesphere.observations.order import sample_of_groups


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
        return ParticleBatch(
            self.index[rows], self.data[rows], self.rotation[rows], self.ctf[rows], self.group[rows]
        )


@dataclass(frozen=True)
class Observations:
    """All images of a run, in memory or in a file mapped into it, on the finest Fourier band of the
    run.

    Parameters
    ----------
    data
        (n, m) complex64, or float16 in memory, on a GPU or in a file; coefficients beyond the band
        may follow.
    rotation, ctf, group
        As in `ParticleBatch`.
    band
        The coefficients' band.
    row
        (k,) the images that are meant, where these are not all: half sets share the arrays instead
        of copying them.
    """

    data: Complex[Tensor, "n m"] | HalfCoefficients
    rotation: Float[Tensor, "n 3 3"]
    ctf: CtfParameters
    group: Int[Tensor, " n"]
    band: FourierBand
    row: Int[Tensor, " k"] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.data) if self.row is None else len(self.row)

    @property
    def n_groups(self) -> int:
        """Number of optics groups among all images, meant or not."""
        return int(self.group.max()) + 1

    @property
    def pages(self) -> Pages | None:
        """The file that the coefficients are mapped from, where they are."""
        return self.data.pages if isinstance(self.data, HalfCoefficients) else None

    @property
    def n_bytes(self) -> int:
        """Memory or disk that the coefficients take."""
        return int(
            self.data.n_bytes if isinstance(self.data, HalfCoefficients) else self.data.nbytes
        )

    @property
    def storage(self) -> str:
        """Say how the coefficients are kept."""
        kind = "float16" if isinstance(self.data, HalfCoefficients) else "float32"
        place = "on disk" if self.pages is not None else "in memory"
        size = (
            f"{self.n_bytes / 1e9:.3g} GB" if self.n_bytes > 1e9 else f"{self.n_bytes / 1e6:.3g} MB"
        )
        return f"{size} of {kind} {place if self.data.device.type == 'cpu' else 'on the GPU'}"

    @property
    def exact(self) -> Complex[Tensor, "n m"]:
        """The coefficients in full precision.

        Raises
        ------
        TypeError
            Where they are kept as float16, which is a fault of the caller.
        """
        if isinstance(self.data, HalfCoefficients):
            raise TypeError("the coefficients are kept as float16")
        return self.data

    def to(self, device: torch.device | str) -> Observations:
        """Return a copy in a device's memory, from which `batch` takes images without a
        transfer.
        """
        arrays = {
            name: getattr(self, name).to(device) for name in ("data", "rotation", "ctf", "group")
        }
        return replace(self, **arrays)

    def subset(self, index: Int[Tensor, " k"]) -> Observations:
        """Return some of the images; nothing is copied."""
        return replace(self, row=self.stored_rows(index))

    def batch(
        self,
        index: Int[Tensor, " b"],
        band: FourierBand | None = None,
        device: torch.device | str = "cpu",
    ) -> ParticleBatch:
        """Take images by row, on the run's band or a coarser one, onto a device."""
        row = self.stored_rows(index).to(self.group.device)
        return ParticleBatch(
            index=index.to(device),
            data=self._take(row, len(band or self.band)).to(device),
            rotation=self.rotation[row].to(device),
            ctf=self.ctf[row].to(device),
            group=self.group[row].to(device),
        )

    def sample(self) -> Int[Tensor, " k"]:
        """Choose images that stand for all, few enough to be looked at before training."""
        group = self.group.cpu()
        return sample_of_groups(group if self.row is None else group[self.row])

    def stored_rows(self, index: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Return where images are in the arrays."""
        return index if self.row is None else self.row[index]

    def _take(self, row: Int[Tensor, " b"], n_coefficients: int) -> Complex[Tensor, "b m"]:
        if isinstance(self.data, HalfCoefficients):
            return self.data.take(row, n_coefficients)
        return self.data[:, :n_coefficients].index_select(0, row)
