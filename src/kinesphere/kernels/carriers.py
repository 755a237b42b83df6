"""Carrying displacements from anchors to points: sums over each point's nearest anchors.

Compiled, images are worked through in blocks, the numbers of which lie side by side for each
anchor: so adding an anchor's part is a few vector instructions, and sums stay in registers.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kinesphere.kernels.compiled import compiled, over_rows
from kinesphere.kernels.dispatch import operation
from kinesphere.kernels.simd import Lanes, number_at

TERMS = 20
"""Anchors that each point has; a point that needs fewer has weights of zero."""
_LANES = 32


@operation(dtypes=(torch.float32,))
def carry(
    index: Int[np.ndarray, "points terms"],
    weight: Float[np.ndarray, "points terms"],
    displacement: Float[np.ndarray, "b anchors c"],
) -> Float[np.ndarray, "b points c"]:
    """Sum weight · displacement over the anchors of each point.

    Parameters
    ----------
    index, weight
        (n_points, TERMS) anchors, and how much of each.
    displacement
        (b, n_anchors, c) of the anchors, c at most 32.

    Returns
    -------
    ndarray
        (b, n_points, c), single precision.
    """
    carried = [np.einsum("pt,ptc->pc", weight, of_image[index]) for of_image in displacement]
    return np.stack(carried).astype(np.float32)


@carry.on_cpu
def _carry_compiled(
    index: NDArray[np.int32], weight: NDArray[np.float32], displacement: NDArray[np.floating]
) -> NDArray[np.float32]:
    n_images, n_anchors, n_values = displacement.shape
    at_once = _LANES // n_values
    n_blocks = -(-n_images // at_once)
    columns = np.zeros((n_blocks, n_anchors, _LANES), dtype=np.float32)
    for block in range(n_blocks):
        part = displacement[block * at_once : (block + 1) * at_once]
        of_part = columns[block, :, : len(part) * n_values].reshape(n_anchors, len(part), n_values)
        of_part[:] = part.transpose(1, 0, 2)
    carried = np.empty((n_images, len(index), n_values), dtype=np.float32)
    starts = index * np.int32(_LANES)

    def carry_blocks(part: slice) -> None:
        _carry(carried[part.start * at_once : part.stop * at_once], columns[part], starts, weight)

    over_rows(carry_blocks, n_blocks, len(index) * TERMS)
    return carried


@carry.example
def _carry_example(_dtype: torch.dtype) -> tuple[NDArray[Any], ...]:
    draw = np.random.default_rng(0)
    index = draw.integers(30, size=(10, TERMS)).astype(np.int32)
    weight = draw.normal(size=(10, TERMS)).astype(np.float32)
    return index, weight, draw.normal(size=(12, 30, 3)).astype(np.float64)


@compiled
@no_type_check
def _carry(carried, columns, starts, weight):
    """Carry blocks of images: `columns` (blocks, anchors, lanes), `starts` the number of an
    anchor's first lane.
    """
    n_points, n_values = carried.shape[1], carried.shape[2]
    at_once = _LANES // n_values
    flat_starts = starts.reshape(-1)
    flat_weight = weight.reshape(-1)
    total = np.empty(_LANES, np.float32)
    for block in range(columns.shape[0]):
        flat = columns[block].reshape(-1)
        first = block * at_once
        n_images = min(at_once, carried.shape[0] - first)
        for point in range(n_points):
            _sum_terms(total, flat, flat_starts, flat_weight, point * TERMS)
            for image in range(n_images):
                for value in range(n_values):
                    carried[first + image, point, value] = total[image * n_values + value]


@intrinsic
@no_type_check
def _sum_terms(context, total, columns, starts, weights, first):  # noqa: ARG001
    """Set all lanes of `total` to the sum of weight · columns over a point's terms, which are from
    `first` on.
    """
    signature = types.void(total, columns, starts, weights, types.intp)

    def generate(context, builder, signature, arguments):
        total, columns, starts, weights, first = arguments
        lanes = Lanes(context, builder, signature.args[0], _LANES)
        result = lanes.zero
        for term in range(TERMS):
            at = builder.add(first, context.get_constant(types.intp, term))
            start = number_at(context, builder, signature.args[2], starts, at)
            start = context.cast(builder, start, signature.args[2].dtype, types.intp)
            factor = lanes.spread(number_at(context, builder, signature.args[3], weights, at))
            result = lanes.multiply_add(factor, lanes.load(lanes.place(columns, start)), result)
        lanes.store(result, lanes.place(total, context.get_constant(types.intp, 0)))
        return context.get_dummy_value()

    return signature, generate
