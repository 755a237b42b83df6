"""Fourier transforms of square images on the half plane, with the image centre as phase origin.

Images have shape ``(..., n, n)`` indexed ``[y, x]``. Their transforms have shape
``(..., n, n // 2 + 1)``: rows are ky in `torch.fft.fftfreq` order, columns are kx >= 0, DC sits at
``[0, 0]``, and pixel ``n // 2`` is the phase origin.
Transforms are not normalised (DC is the sum of the image); the inverse divides by n².

An even box holds one row and one column at the Nyquist frequency n/2 that stand for both +n/2 and
-n/2. Every function here treats an image as samples of the real trigonometric polynomial that
shares such a coefficient equally between the two signs, so that changing the box or shifting never
breaks the Hermitian symmetry of a real image.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

Device = torch.device | str | None


def fourier_grid(
    n: int, device: Device = None, dtype: torch.dtype = torch.float32
) -> tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]:
    """Spatial frequencies of the half plane.

    Parameters
    ----------
    n
        Box in pixels.
    device, dtype
        Where and how the grid is stored.

    Returns
    -------
    ky, kx
        Each ``(n, n // 2 + 1)``, in cycles per pixel. In an even box the Nyquist row is ky = -1/2,
        the column kx = 1/2.
    """
    ky = torch.fft.fftfreq(n, device=device, dtype=dtype)
    kx = torch.fft.rfftfreq(n, device=device, dtype=dtype)
    grid_y, grid_x = torch.meshgrid(ky, kx, indexing="ij")
    return grid_y, grid_x


def radial_shell_index(n: int, device: Device = None) -> Int[Tensor, "n half"]:
    """Resolution shell of each half-plane coefficient: |k|·n rounded to the nearest integer
    (RELION's shells).

    Parameters
    ----------
    n
        Box in pixels.
    device
        Where the index is stored.

    Returns
    -------
    Tensor
        ``(n, n // 2 + 1)`` int64; shell n // 2 is Nyquist, the corners lie beyond it.
    """
    ky, kx = fourier_grid(n, device, torch.float64)
    return torch.round(torch.hypot(ky, kx) * n).long()


def half_plane_weights(
    n: int, device: Device = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n half"]:
    """How often each half-plane coefficient occurs in the full plane.

    Columns kx = 0 and, in an even box, kx = n/2 are complete in the half plane; each other
    coefficient also stands for its mirror image. Hence ``sum(weights * |F|**2) / n**2 ==
    sum(image**2)`` (Parseval).

    Parameters
    ----------
    n
        Box in pixels.
    device, dtype
        Where and how the weights are stored.

    Returns
    -------
    Tensor
        ``(n, n // 2 + 1)`` of ones and twos.
    """
    weights = torch.full((n, n // 2 + 1), 2.0, device=device, dtype=dtype)
    weights[:, 0] = 1.0
    if n % 2 == 0:
        weights[:, -1] = 1.0
    return weights


def radial_average(power: Float[Tensor, "*batch n half"], n: int) -> Float[Tensor, "*batch shells"]:
    """Mean over each resolution shell of the full plane.

    Parameters
    ----------
    power
        ``(..., n, n // 2 + 1)``, any real half-plane quantity that is the same at k and -k, such as
        |F|².
    n
        Box in pixels.

    Returns
    -------
    Tensor
        ``(..., n // 2 + 1)``: shells 0 to Nyquist; the corners beyond Nyquist are left out.
    """
    shell = radial_shell_index(n, power.device).flatten()
    inside = shell <= n // 2
    weights = half_plane_weights(n, power.device, power.dtype).flatten()[inside]
    values = power.flatten(start_dim=-2)[..., inside] * weights
    shell = shell[inside]
    sums = values.new_zeros(*values.shape[:-1], n // 2 + 1).index_add(-1, shell, values)
    counts = weights.new_zeros(n // 2 + 1).index_add(0, shell, weights)
    return sums / counts


def centred_rfft2(images: Float[Tensor, "*batch n n"]) -> Complex[Tensor, "*batch n half"]:
    """Half-plane transform with the phase origin at pixel ``n // 2``.

    Parameters
    ----------
    images
        ``(..., n, n)`` real.

    Returns
    -------
    Tensor
        ``(..., n, n // 2 + 1)`` complex, DC at ``[0, 0]``, unnormalised.
    """
    transform: Tensor = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))
    return transform


def centred_irfft2(
    fourier: Complex[Tensor, "*batch n half"], n: int
) -> Float[Tensor, "*batch n n"]:
    """Inverse of `centred_rfft2`.

    Parameters
    ----------
    fourier
        ``(..., n, n // 2 + 1)`` complex.
    n
        Box in pixels, which the half plane alone does not tell (n and n + 1 share a width where n
        is even).

    Returns
    -------
    Tensor
        ``(..., n, n)`` real.
    """
    images: Tensor = torch.fft.fftshift(torch.fft.irfft2(fourier, s=(n, n)), dim=(-2, -1))
    return images


def crop_fourier(
    fourier: Complex[Tensor, "*batch n half"], n_from: int, n_to: int
) -> Complex[Tensor, "*batch m half_m"]:
    """Keep the frequencies that a smaller box of coarser pixels can hold.

    The image's mean and the amplitude of each kept wave are preserved, and pixel ``n_from // 2``
    maps onto ``n_to // 2``. The coefficients at +Nyquist and -Nyquist of an even new box are added,
    as sampling does (`scipy.signal.resample` does the same).

    Parameters
    ----------
    fourier
        ``(..., n_from, n_from // 2 + 1)``, phase origin at the image centre.
    n_from, n_to
        Boxes in pixels, ``n_to <= n_from``, odd or even.

    Returns
    -------
    Tensor
        ``(..., n_to, n_to // 2 + 1)``.

    Raises
    ------
    ValueError
        If ``n_to`` is larger than ``n_from``.
    """
    if n_to > n_from:
        raise ValueError(f"cannot crop a box of {n_from} px to {n_to} px")
    if n_to == n_from:
        return fourier
    half = n_to // 2
    columns = fourier[..., : half + 1] * (n_to / n_from) ** 2
    if n_to % 2 == 0:
        nyquist = columns[..., -1:]
        columns = torch.cat([columns[..., :-1], nyquist + _mirror_rows(nyquist).conj()], dim=-1)
        positive = columns[..., :half, :]
        negative = columns[..., n_from - half :, :]
        aliased = columns[..., half : half + 1, :] + negative[..., :1, :]
        return torch.cat([positive, aliased, negative[..., 1:, :]], dim=-2)
    return torch.cat([columns[..., : half + 1, :], columns[..., n_from - half :, :]], dim=-2)


def pad_fourier(
    fourier: Complex[Tensor, "*batch n half"], n_from: int, n_to: int
) -> Complex[Tensor, "*batch m half_m"]:
    """Put the same image on a larger box of finer pixels: trigonometric interpolation.

    Scale and centre as in `crop_fourier`, which undoes it exactly. The Nyquist coefficients of an
    even box are shared equally between +Nyquist and -Nyquist.

    Parameters
    ----------
    fourier
        ``(..., n_from, n_from // 2 + 1)``, phase origin at the image centre.
    n_from, n_to
        Boxes in pixels, ``n_to >= n_from``, odd or even.

    Returns
    -------
    Tensor
        ``(..., n_to, n_to // 2 + 1)``.

    Raises
    ------
    ValueError
        If ``n_to`` is smaller than ``n_from``.
    """
    if n_to < n_from:
        raise ValueError(f"cannot pad a box of {n_from} px to {n_to} px")
    if n_to == n_from:
        return fourier
    half = n_from // 2
    positive = fourier[..., : n_from - half, :]
    negative = fourier[..., n_from - half :, :]
    if n_from % 2 == 0:
        shared = negative[..., :1, :] / 2
        positive = torch.cat([positive, shared], dim=-2)
        negative = torch.cat([shared, negative[..., 1:, :]], dim=-2)
    rows = n_to - positive.shape[-2] - negative.shape[-2]
    gap = fourier.new_zeros(*fourier.shape[:-2], rows, half + 1)
    columns = torch.cat([positive, gap, negative], dim=-2)
    if n_from % 2 == 0:
        columns = torch.cat([columns[..., :-1], columns[..., -1:] / 2], dim=-1)
    return torch.nn.functional.pad(columns * (n_to / n_from) ** 2, (0, n_to // 2 - half))


def shift_fourier(
    fourier: Complex[Tensor, "*#batch n half"], shift_px: Float[Tensor, "*#batch 2"]
) -> Complex[Tensor, "*#batch n half"]:
    """Move the content of images by a sub-pixel shift: F(k)·exp(-2πi k·t).

    Parameters
    ----------
    fourier
        ``(..., n, n // 2 + 1)``.
    shift_px
        ``(..., 2)`` in pixels, order x, y; what was at (x, y) is at (x, y) + shift afterwards.
        Leading axes broadcast.

    Returns
    -------
    Tensor
        ``(..., n, n // 2 + 1)``. At the Nyquist frequency of an even box the phase is averaged over
        its two signs, which keeps the image real (and damps that one row and column for non-integer
        shifts).
    """
    n = fourier.shape[-2]
    ky = torch.fft.fftfreq(n, device=shift_px.device, dtype=shift_px.dtype)
    kx = torch.fft.rfftfreq(n, device=shift_px.device, dtype=shift_px.dtype)
    phase_x = _shift_phase(kx, shift_px[..., 0])[..., None, :]
    phase_y = _shift_phase(ky, shift_px[..., 1])[..., :, None]
    return fourier * phase_y * phase_x


def _shift_phase(k: Tensor, shift_px: Tensor) -> Tensor:
    """exp(-2πi k t), real where |k| is Nyquist; k (m,), t (...) -> (..., m)."""
    angle = -2 * torch.pi * shift_px[..., None] * k
    return torch.complex(torch.cos(angle), torch.where(k.abs() == 0.5, 0.0, torch.sin(angle)))


def _mirror_rows(fourier: Tensor) -> Tensor:
    """Value at -ky of each row."""
    return torch.roll(torch.flip(fourier, dims=(-2,)), 1, dims=-2)
