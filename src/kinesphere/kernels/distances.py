"""Distances between chosen pairs of points in many structures, the energy of changed distances, and
their gradients.

Compiled, no array of differences is written.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.kernels.compiled import array_of, compiled, over_rows
from kinesphere.kernels.dispatch import operation

TINY = 1e-12  # Å²; keeps the gradient of coinciding points finite
HUBER_ANGSTROM = 0.3


@operation(differentiable=(0,))
def pair_distances(
    positions: Float[Tensor, "k p 3"], pairs: Int[Tensor, "e 2"]
) -> Float[Tensor, "k e"]:
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
    offset = positions[..., pairs[:, 0], :] - positions[..., pairs[:, 1], :]
    return torch.sqrt((offset**2).sum(-1) + TINY)


@operation(differentiable=(0,), triton="kinesphere.kernels.distances_triton")
def strain_energy(
    positions: Float[Tensor, "k p 3"],
    pairs: Int[Tensor, "e 2"],
    kept: Float[Tensor, " e"],
    nearest: Float[Tensor, " e"] | None = None,
) -> Float[Tensor, " k"]:
    """Sum of Huber's function of the changes in distance, and of what is missing to a least
    distance.

    Huber's function is here c² up to 0.3 Å and linear beyond: h(c) = min(c, 0.3) · (2 c − min(c,
    0.3)).

    Parameters
    ----------
    positions
        (n_structures, n_points, 3) in Å.
    pairs
        (n_pairs, 2) rows of points.
    kept
        (n_pairs,) distance each pair should have, in Å.
    nearest
        (n_pairs,) distance below which a pair is charged again; none: only changes count.

    Returns
    -------
    Tensor
        (n_structures,) in Å²; differentiable once.
    """
    length = pair_distances.reference(positions, pairs)
    energy = _huber((length - kept).abs())
    if nearest is not None:
        energy = energy + _huber((nearest - length).clamp_min(0.0))
    return energy.sum(-1)


def _huber(change: Tensor) -> Tensor:
    core = change.clamp_max(HUBER_ANGSTROM)
    return core * (2.0 * change - core)


@pair_distances.on_cpu
def _pair_distances_compiled(positions: Tensor, pairs: Tensor) -> Tensor:
    length: Tensor = _PairDistances.apply(positions, pairs)
    return length


@strain_energy.on_cpu
def _strain_energy_compiled(
    positions: Tensor, pairs: Tensor, kept: Tensor, nearest: Tensor | None = None
) -> Tensor:
    least = torch.zeros_like(kept) if nearest is None else nearest
    energy: Tensor = _StrainEnergy.apply(positions, pairs, kept, least)
    return energy


def _example_structures(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    points = 3.0 * torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    return points, torch.triu_indices(20, 20, 1).T[::3].contiguous()


@pair_distances.example
def _pair_distances_example(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return _example_structures(dtype)


@strain_energy.example
def _strain_energy_example(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    points, pairs = _example_structures(dtype)
    noise = torch.randn(len(pairs), generator=torch.Generator().manual_seed(1)).to(dtype)
    return points, pairs, 4.0 + noise, 3.5 + noise


class _StrainEnergy(torch.autograd.Function):
    """Energy and gradient from one pass over the pairs, structures side by side in vector
    instructions.
    """

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, pairs: Tensor, kept: Tensor, nearest: Tensor
    ) -> Tensor:
        side_by_side = positions.detach().permute(1, 2, 0).contiguous()
        energy = torch.zeros_like(positions[:, 0, 0])
        gradient = torch.zeros_like(side_by_side)
        arrays = [array_of(values) for values in (pairs, kept.to(positions), nearest.to(positions))]
        points = side_by_side.numpy()
        out = energy.numpy()
        grad_points = gradient.numpy()
        over_rows(
            lambda part: _strain(points, *arrays, part.start, part.stop, out, grad_points),
            len(positions),
            len(pairs),
        )
        ctx.save_for_backward(gradient)
        return energy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).permute(2, 0, 1), None, None, None


class _PairDistances(torch.autograd.Function):
    """Differentiable in the positions."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, pairs: Tensor) -> Tensor:
        length = positions.new_empty(len(positions), len(pairs))
        points = array_of(positions)
        rows = array_of(pairs)
        out = length.numpy()
        over_rows(lambda part: _distances(points[part], rows, out[part]), len(points), len(rows))
        ctx.save_for_backward(positions, pairs, length)
        return length

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, pairs, length = ctx.saved_tensors
        gradient = torch.zeros_like(positions)
        points = array_of(positions)
        rows = array_of(pairs)
        lengths = array_of(length)
        out = gradient.numpy()
        grad_length = array_of(gradients[0])

        def work(part: slice) -> None:
            _distances_gradient(points[part], rows, lengths[part], grad_length[part], out[part])

        over_rows(work, len(points), len(rows))
        return gradient, None


@compiled
@no_type_check
def _distances(points, pairs, length):
    """Set the distances (k, e)."""
    tiny = points.dtype.type(TINY)
    for k in range(points.shape[0]):
        for e in range(pairs.shape[0]):
            i, j = pairs[e, 0], pairs[e, 1]
            x = points[k, i, 0] - points[k, j, 0]
            y = points[k, i, 1] - points[k, j, 1]
            z = points[k, i, 2] - points[k, j, 2]
            length[k, e] = np.sqrt(x * x + y * y + z * z + tiny)


@compiled
@no_type_check
def _distances_gradient(points, pairs, length, grad_length, gradient):
    """Add the gradient with respect to points, from that with respect to the distances."""
    for k in range(points.shape[0]):
        for e in range(pairs.shape[0]):
            i, j = pairs[e, 0], pairs[e, 1]
            factor = grad_length[k, e] / length[k, e]
            for axis in range(3):
                pull = factor * (points[k, i, axis] - points[k, j, axis])
                gradient[k, i, axis] += pull
                gradient[k, j, axis] -= pull


@compiled
@no_type_check
def _strain(points, pairs, kept, nearest, first, last, energy, gradient):
    """Add the energy of structures first … last − 1 and its gradient; points and gradient are (p,
    3, k).
    """
    tiny = points.dtype.type(TINY)
    core = points.dtype.type(HUBER_ANGSTROM)
    zero = points.dtype.type(0)
    for e in range(pairs.shape[0]):
        a, b = points[pairs[e, 0]], points[pairs[e, 1]]
        grad_a, grad_b = gradient[pairs[e, 0]], gradient[pairs[e, 1]]
        target = kept[e]
        least = nearest[e]
        # structures lie side by side, so that this loop is vector instructions
        for k in range(first, last):
            x, y, z = a[0, k] - b[0, k], a[1, k] - b[1, k], a[2, k] - b[2, k]
            length = np.sqrt(x * x + y * y + z * z + tiny)
            change, missing = length - target, least - length
            size, missing = abs(change), max(missing, zero)
            inner, inner_missing = min(size, core), min(missing, core)
            energy[k] += inner * (2 * size - inner) + inner_missing * (2 * missing - inner_missing)
            # h'(c) = 2 · c, at most 2 · 0.3 either way
            pull = 2 * (min(max(change, -core), core) - inner_missing) / length
            x, y, z = pull * x, pull * y, pull * z
            grad_a[0, k] += x
            grad_a[1, k] += y
            grad_a[2, k] += z
            grad_b[0, k] -= x
            grad_b[1, k] -= y
            grad_b[2, k] -= z
