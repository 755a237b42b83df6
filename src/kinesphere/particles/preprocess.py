"""What is done to particle images before anything is learnt from them: background statistics,
ramps, Fourier-cropping.

All functions take and return float tensors of shape ``(n_images, box, box)``, indexed ``[y, x]``.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinesphere.fourier import Device, centred_irfft2, centred_rfft2, crop_fourier


def background_mask(box_px: int, radius_px: float, device: Device = None) -> Bool[Tensor, "n n"]:
    """Mark the pixels outside a circle around the image centre, pixel ``box_px // 2``.

    Parameters
    ----------
    box_px
        Box of the images.
    radius_px
        Radius of the circle.
    device
        Where the mask is stored.

    Returns
    -------
    Tensor
        ``(box_px, box_px)``, true on the background.

    Raises
    ------
    ValueError
        If fewer than three pixels lie outside the circle.
    """
    axis = torch.arange(box_px, device=device, dtype=torch.float64) - box_px // 2
    mask = axis[:, None] ** 2 + axis**2 > radius_px**2
    if int(mask.sum()) < 3:
        raise ValueError(
            f"a circle of radius {radius_px:g} px leaves no background in a box of {box_px} px"
        )
    return mask


def background_statistics(
    images: Float[Tensor, "b n n"], radius_px: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Mean and standard deviation of the pixels outside a circle.

    Parameters
    ----------
    images
        ``(b, n, n)``.
    radius_px
        As in `background_mask`.

    Returns
    -------
    mean, sd
        Each ``(b,)``; sd is that of the population, as in RELION.
    """
    mask = background_mask(images.shape[-1], radius_px, images.device)
    # Weighted sums are quicker than picking pixels by the mask; no matrix product, whose rounding
    # depends on the batch.
    weights = (mask / mask.sum()).to(images.dtype)
    mean = (images * weights).sum(dim=(1, 2))
    deviation = images - mean[:, None, None]
    return mean, (deviation * deviation * weights).sum(dim=(1, 2)).sqrt()


def subtract_ramp(images: Float[Tensor, "b n n"], radius_px: float) -> Float[Tensor, "b n n"]:
    """Subtract the plane a + b·x + c·y that fits the background of each image best (least squares).

    Parameters
    ----------
    images
        ``(b, n, n)``.
    radius_px
        As in `background_mask`.

    Returns
    -------
    Tensor
        ``(b, n, n)``.
    """
    n = images.shape[-1]
    mask = background_mask(n, radius_px, images.device)
    # Coordinates from -1 to 1 keep the three columns of the fit equally large.
    axis = torch.linspace(-1, 1, n, device=images.device, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    design = torch.stack([torch.ones_like(x), x, y], dim=-1)  # (n, n, 3)
    solve = torch.linalg.pinv(design[mask]).to(images.dtype)  # (3, n_background)
    coefficients = images[:, mask] @ solve.T  # (b, 3)
    return images - torch.einsum("bc,yxc->byx", coefficients, design.to(images.dtype))


def fourier_crop_images(images: Float[Tensor, "b n n"], box_px: int) -> Float[Tensor, "b m m"]:
    """Bring images to a smaller box of coarser pixels over the same field of view.

    Parameters
    ----------
    images
        ``(b, n, n)``.
    box_px
        New box, at most n.

    Returns
    -------
    Tensor
        ``(b, box_px, box_px)``. Mean and amplitudes are kept, pixel ``n // 2`` maps onto
        ``box_px // 2``; the standard deviation of white noise falls by ``box_px / n``.
    """
    if box_px == images.shape[-1]:
        return images
    return centred_irfft2(crop_fourier(centred_rfft2(images), images.shape[-1], box_px), box_px)
