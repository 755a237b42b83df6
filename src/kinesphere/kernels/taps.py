"""The sixteen grid values around a point, four at a time: what spreading and its gradient do at
every point.

The four taps of a row lie side by side, so that a row is one vector instruction; compilers do not
find that themselves. Written once as LLVM instructions for compiled loops of either precision. The
weights are those of `bspline` at t past the second tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, no_type_check

from numba import types
from numba.extending import intrinsic

from kinesphere.kernels.bspline import N_TAPS, SLOPES, WEIGHTS
from kinesphere.kernels.simd import Lanes


@intrinsic
@no_type_check
def add_taps(context, grid, at, width, tx, ty, amount):  # noqa: ARG001
    """Add amount · w(tx) · w(ty) to the 4 × 4 values from `at` on, of a flat grid whose rows are
    `width` long.
    """
    kind = grid.dtype
    signature = types.void(grid, types.intp, types.intp, kind, kind, kind)

    def generate(context, builder, signature, arguments):
        grid, at, width, tx, ty, amount = arguments
        lanes = Lanes(context, builder, signature.args[0], N_TAPS)
        along_x = lanes.multiply(lanes.polynomial(WEIGHTS, lanes.spread(tx)), lanes.spread(amount))
        along_y = lanes.polynomial(WEIGHTS, lanes.spread(ty))
        for row, place in enumerate(_rows(lanes, builder, grid, at, width)):
            lanes.store(
                lanes.multiply_add(along_x, lanes.lane(along_y, row), lanes.load(place)), place
            )
        return context.get_dummy_value()

    return signature, generate


@intrinsic
@no_type_check
def read_taps(context, grid, at, width, tx, ty):  # noqa: ARG001
    """Give Σ w(tx) w(ty) value of the 4 × 4 values from `at` on, and its derivatives with respect
    to tx and ty.
    """
    kind = grid.dtype
    signature = types.UniTuple(kind, 3)(grid, types.intp, types.intp, kind, kind)

    def generate(context, builder, signature, arguments):
        grid, at, width, tx, ty = arguments
        lanes = Lanes(context, builder, signature.args[0], N_TAPS)
        weight_y, slope_y = (
            lanes.polynomial(table, lanes.spread(ty)) for table in (WEIGHTS, SLOPES)
        )
        weight_x, slope_x = (
            lanes.polynomial(table, lanes.spread(tx)) for table in (WEIGHTS, SLOPES)
        )
        # down the rows first, all columns at once; only the two sums that are left go across lanes
        column = lanes.zero
        tilt = lanes.zero
        for row, place in enumerate(_rows(lanes, builder, grid, at, width)):
            values = lanes.load(place)
            column = lanes.multiply_add(values, lanes.lane(weight_y, row), column)
            tilt = lanes.multiply_add(values, lanes.lane(slope_y, row), tilt)
        value = lanes.dot(column, weight_x)
        slopes = (lanes.dot(column, slope_x), lanes.dot(tilt, weight_x))
        return context.make_tuple(builder, signature.return_type, (value, *slopes))

    return signature, generate


def _rows(lanes: Lanes, builder: Any, grid: Any, at: Any, width: Any) -> Iterator[Any]:
    """Point at the taps of each row."""
    for row in range(N_TAPS):
        at = at if row == 0 else builder.add(at, width)
        yield lanes.place(grid, at)
