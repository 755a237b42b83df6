"""Fourier coefficients as pairs of float16 with a scale for each image: half the memory of
complex64.

An image's largest real or imaginary part is brought below 2¹⁵ by a power of two, which costs no
accuracy. A part then keeps 11 significant bits, a relative error of at most 2⁻¹¹ (4.9e-4), down to
2⁻²⁸ of the largest; below that the error is at most 2⁻³⁹ of the largest. A coefficient of a
particle image is nearly all noise: rounding adds less than one part in a million to its power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float, Float16, Int
from torch import Tensor

BYTES_EXACT = 8
BYTES_HALF = 4
_ROWS_AT_ONCE = 1 << 14
_LARGEST_EXPONENT = 15
_SMALLEST_EXPONENT = -100  # scales stay normal float32 numbers, also of an image that is all zero


@runtime_checkable
class Pages(Protocol):
    """Where the coefficients of images are if they are a file's: read ahead what is wanted, let go
    what is not.
    """

    def read_ahead(self, rows: Int[Tensor, " k"]) -> None:
        """Ask the system to have the images of some rows, ascending, in its cache soon."""
        ...

    def let_go(self) -> None:
        """Give back the memory of all images; the next access reads them again."""
        ...


def to_half(
    coefficients: Complex[Tensor, "b m"],
) -> tuple[Float16[Tensor, "b parts"], Float[Tensor, " b"]]:
    """Convert coefficients to float16 pairs.

    Parameters
    ----------
    coefficients
        (b, m) complex64, finite.

    Returns
    -------
    tuple
        (b, 2 m) real and imaginary parts by turns, over the scale; (b,) the scale, a power of two.
    """
    parts = torch.view_as_real(coefficients).flatten(1)
    exponent = torch.frexp(parts.abs().amax(1)).exponent - _LARGEST_EXPONENT
    scale = torch.ldexp(parts.new_ones(len(parts)), exponent.clamp(min=_SMALLEST_EXPONENT))
    return (parts / scale[:, None]).half(), scale


def from_half(
    values: Float16[Tensor, "b parts"], scale: Float[Tensor, " b"]
) -> Complex[Tensor, "b m"]:
    """Convert float16 pairs back to complex64: what `to_half` made, or the first pairs of it."""
    parts = values.float().mul_(scale[:, None])
    return torch.view_as_complex(parts.unflatten(1, (-1, 2)))


@dataclass(frozen=True)
class HalfCoefficients:
    """The coefficients of all images in float16, in memory, on a GPU or in a file.

    Parameters
    ----------
    values, scale
        (n, 2 m) and (n,), as `to_half` makes them.
    pages
        The file that `values` are mapped from, where they are.
    """

    values: Float16[Tensor, "n parts"]
    scale: Float[Tensor, " n"]
    pages: Pages | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.scale)

    @property
    def n_bytes(self) -> int:
        """Memory or disk that they take."""
        return self.values.nbytes + self.scale.nbytes

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    def take(self, row: Int[Tensor, " b"], n_coefficients: int) -> Complex[Tensor, "b m"]:
        """Return the first coefficients of some images as complex64, on the device of the
        values.
        """
        return from_half(self.values[:, : 2 * n_coefficients].index_select(0, row), self.scale[row])

    def to(self, device: torch.device | str) -> HalfCoefficients:
        """Return them on a device, or themselves where they are there."""
        return self if self.device == torch.device(device) else self.loaded(device)

    def loaded(self, device: torch.device | str) -> HalfCoefficients:
        """Return a copy in a device's memory."""
        values, scale = (
            torch.empty_like(part, device=device) for part in (self.values, self.scale)
        )
        loaded = HalfCoefficients(values, scale)
        for rows in torch.arange(len(self)).split(_ROWS_AT_ONCE):
            here = slice(int(rows[0]), int(rows[-1]) + 1)
            loaded.values[here] = self.values[here]
            loaded.scale[here] = self.scale[here]
            if self.pages is not None:
                self.pages.let_go()  # or the copy would take twice its size while it is made
        return loaded


@runtime_checkable
class Keeper(Protocol):
    """Receives the coefficients of all images in order."""

    def write(self, coefficients: Complex[Tensor, "b m"]) -> None:
        """Append the coefficients of some images."""
        ...

    def finish(self) -> Complex[Tensor, "n m"] | HalfCoefficients:
        """Return all that was written."""
        ...


class ExactKeeper:
    """Keeps coefficients as they are.

    Parameters
    ----------
    data
        (n, m) complex64, to be filled.
    """

    def __init__(self, data: Complex[Tensor, "n m"]) -> None:
        self._data = data
        self._n_written = 0

    def write(self, coefficients: Complex[Tensor, "b m"]) -> None:
        """Append the coefficients of some images."""
        self._data[self._n_written : self._n_written + len(coefficients)] = coefficients
        self._n_written += len(coefficients)

    def finish(self) -> Complex[Tensor, "n m"]:
        """Return all that was written."""
        return self._data


class HalfKeeper:
    """Keeps coefficients as float16 in memory.

    Parameters
    ----------
    shape
        Numbers of images and of coefficients.
    device
        The processor's memory or a GPU's.
    """

    def __init__(self, shape: Sequence[int], device: torch.device | str = "cpu") -> None:
        n_images, n_coefficients = shape
        values = torch.empty(n_images, 2 * n_coefficients, dtype=torch.float16, device=device)
        self._kept = HalfCoefficients(values, torch.empty(n_images, device=device))
        self._n_written = 0

    def write(self, coefficients: Complex[Tensor, "b m"]) -> None:
        """Append the coefficients of some images."""
        rows = slice(self._n_written, self._n_written + len(coefficients))
        self._kept.values[rows], self._kept.scale[rows] = (
            part.to(self._kept.device) for part in to_half(coefficients)
        )
        self._n_written = rows.stop

    def finish(self) -> HalfCoefficients:
        """Return all that was written."""
        return self._kept
