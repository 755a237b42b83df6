"""Distances between chosen pairs of points in many structures, and their gradient.

Twice: in torch, on any device, as the reference; and compiled for the CPU, where no array of differences is written.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.compiled import compiled, over_rows

_TINY = 1e-12  # Å²; keeps the gradient of coinciding points finite


def pair_distances(positions: Float[Tensor, "k p 3"], pairs: Int[Tensor, "e 2"]) -> Float[Tensor, "k e"]:
    """Distances between the points of each pair in each structure.

    Parameters
    ----------
    positions
        (n_structures, n_points, 3) in Å.
    pairs
        (n_pairs, 2) rows of points.

    Returns
    -------
    Tensor
        (n_structures, n_pairs) in Å; differentiable once, also where points coincide.
    """
    if positions.device.type != "cpu":
        return pair_distances_reference(positions, pairs)
    found: Tensor = _PairDistances.apply(positions, pairs)
    return found


def pair_distances_reference(positions: Tensor, pairs: Tensor) -> Tensor:
    """`pair_distances` in torch."""
    offset = positions[..., pairs[:, 0], :] - positions[..., pairs[:, 1], :]
    return torch.sqrt((offset**2).sum(-1) + _TINY)


class _PairDistances(torch.autograd.Function):
    """Differentiable in the positions."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, pairs: Tensor) -> Tensor:
        length = positions.new_empty(len(positions), len(pairs))
        points, rows, out = _array(positions), _array(pairs), length.numpy()
        over_rows(lambda part: _distances(points[part], rows, out[part]), len(points), len(rows))
        ctx.save_for_backward(positions, pairs, length)
        return length

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, pairs, length = ctx.saved_tensors
        gradient = torch.zeros_like(positions)
        points, rows, lengths, out = _array(positions), _array(pairs), _array(length), gradient.numpy()
        by_length = _array(gradients[0])

        def work(part: slice) -> None:
            _distances_gradient(points[part], rows, lengths[part], by_length[part], out[part])

        over_rows(work, len(points), len(rows))
        return gradient, None


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().contiguous().numpy()
    return array


@compiled
@no_type_check
def _distances(points, pairs, length):  # noqa: ANN001, ANN202
    tiny = points.dtype.type(_TINY)
    for k in range(points.shape[0]):
        for e in range(pairs.shape[0]):
            i, j = pairs[e, 0], pairs[e, 1]
            x = points[k, i, 0] - points[k, j, 0]
            y = points[k, i, 1] - points[k, j, 1]
            z = points[k, i, 2] - points[k, j, 2]
            length[k, e] = np.sqrt(x * x + y * y + z * z + tiny)


@compiled
@no_type_check
def _distances_gradient(points, pairs, length, by_length, gradient):  # noqa: ANN001, ANN202
    for k in range(points.shape[0]):
        for e in range(pairs.shape[0]):
            i, j = pairs[e, 0], pairs[e, 1]
            factor = by_length[k, e] / length[k, e]
            for axis in range(3):
                pull = factor * (points[k, i, axis] - points[k, j, axis])
                gradient[k, i, axis] += pull
                gradient[k, j, axis] -= pull
