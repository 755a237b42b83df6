"""Sums over images and their pairs with conformations, coefficient by coefficient: what signal
scale and noise power are estimated from.

Compiled, no array of the size of pairs × coefficients is written.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled
from kinesphere.kernels.dispatch import operation


@operation()
def sum_products(
    group: Int[Tensor, " b"],
    data: Complex[Tensor, "b m"],
    transfer: Float[Tensor, "b m"],
    factor: Complex[Tensor, "q m"],
    image: Int[Tensor, " q"],
    weight: Float[Tensor, " q"],
    n_groups: int,
) -> Float[Tensor, "3 g m"]:
    """Sum |X|² over the images of each group, and w Re(X* M) and w |M|² over their pairs; no
    gradient.

    Parameters
    ----------
    group, data, transfer
        (b,) optics group, (b, m) coefficients X and (b, m) CTF of each image.
    factor, image, weight
        (q, m) structure factor (M is CTF times it), (q,) image and (q,) weight w of each pair.
    n_groups
        Number of groups.

    Returns
    -------
    Tensor
        (3, n_groups, m).
    """
    every_image = _weights_by_group(group, torch.ones_like(data[:, 0].real), n_groups)
    every_pair = _weights_by_group(group[image], weight, n_groups)
    x = data[image]
    model = transfer[image] * factor
    return torch.stack(
        [
            every_image @ (data.real**2 + data.imag**2),
            every_pair @ (x.real * model.real + x.imag * model.imag),
            every_pair @ (model.real**2 + model.imag**2),
        ]
    )


def _weights_by_group(group: Tensor, weight: Tensor, n_groups: int) -> Tensor:
    """(n_groups, b) weight of each image in the row of its group."""
    return weight.new_zeros(n_groups, len(group)).scatter_(0, group[None], weight[None])


@sum_products.on_cpu
def _sum_products_compiled(
    group: Tensor,
    data: Tensor,
    transfer: Tensor,
    factor: Tensor,
    image: Tensor,
    weight: Tensor,
    n_groups: int,
) -> Tensor:
    sums = transfer.new_zeros(3, n_groups, data.shape[1])
    arrays = [array_of(values) for values in (group, data, transfer, factor, image, weight)]
    _sum_products(*arrays, sums.numpy())
    return sums


@sum_products.example
def _sum_products_example(dtype: torch.dtype) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    data, factor = (
        torch.view_as_complex(torch.randn(n, 10, 2, generator=generator).to(dtype)) for n in (4, 6)
    )
    transfer = torch.randn(4, 10, generator=generator).to(dtype)
    group = torch.tensor([0, 1, 1, 0])
    image = torch.tensor([0, 0, 1, 3, 3, 3])
    return group, data, transfer, factor, image, torch.linspace(0.1, 0.9, 6, dtype=dtype), 2


@compiled
@no_type_check
def _sum_products(group, data, transfer, factor, image, weight, sums):
    """Add to the sums (3, n_groups, m)."""
    for b in range(data.shape[0]):
        total = sums[0, group[b]]
        for m in range(data.shape[1]):
            total[m] += data[b, m].real * data[b, m].real + data[b, m].imag * data[b, m].imag
    for q in range(image.shape[0]):
        b = image[q]
        w = weight[q]
        cross, power = sums[1, group[b]], sums[2, group[b]]
        for m in range(data.shape[1]):
            x, f, c = data[b, m], factor[q, m], transfer[b, m]
            cross[m] += w * c * (x.real * f.real + x.imag * f.imag)
            power[m] += w * c * c * (f.real * f.real + f.imag * f.imag)
