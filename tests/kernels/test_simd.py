"""Numbers as one LLVM vector, against the same in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from kinesphere.kernels.compiled import compiled
from kinesphere.kernels.simd import Lanes, number_at

TABLE = ((1.0, 2.0, 3.0, 4.0), (0.5, 0.0, -0.5, 1.0), (2.0, 2.0, 0.0, -1.0))


@intrinsic
def combine(context: Any, values: Any, result: Any) -> Any:
    """Set the result to a polynomial in the first value times the values, and give a dot
    product."""
    signature = values.dtype(values, result)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = Lanes(context, builder, signature.args[0], 4)
        zero = context.get_constant(types.intp, 0)
        vector = lanes.load(lanes.place(arguments[0], zero))
        first = lanes.spread(number_at(context, builder, signature.args[0], arguments[0], zero))
        polynomial = lanes.polynomial(TABLE, first)
        product = lanes.multiply_add(polynomial, vector, lanes.constant([1.0, 2.0, 3.0, 4.0]))
        lanes.store(product, lanes.place(arguments[1], zero))
        return lanes.dot(lanes.lane(vector, 2), vector)

    return signature, generate


@compiled
def run(values, result):  # noqa: ANN001, ANN201 - numba finds the types
    return combine(values, result)


def test_polynomials_products_and_sums_go_lane_by_lane() -> None:
    for dtype in (np.float32, np.float64):
        values = np.array([0.5, -2.0, 3.0, 0.25, 99.0], dtype)
        result = np.zeros(4, dtype)
        dot = run(values, result)
        powers = values[0] ** np.arange(3)
        expected = (powers @ np.array(TABLE)) * values[:4] + np.arange(1.0, 5.0)
        np.testing.assert_allclose(result, expected, rtol=1e-6)
        np.testing.assert_allclose(dot, 3.0 * values[:4].sum(), rtol=1e-6)
