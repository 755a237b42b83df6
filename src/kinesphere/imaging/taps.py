"""The sixteen grid values around a point, four at a time: what spreading and its gradient do at every point.

The four taps of a row lie side by side, so that a row is one vector instruction; compilers do not find that themselves.
Written once as LLVM instructions for compiled loops of either precision. The weights are those of the cubic B-spline at
t past the second tap; tests compare with `spreading.spread_reference`.
"""

from __future__ import annotations

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_TAPS = 4
_FAST = ("contract", "reassoc", "nsz")
# Polynomials in t, constant term first, of the weights of the four taps, and of their derivatives.
_WEIGHTS = ((1 / 6, 2 / 3, 1 / 6, 0.0), (-0.5, 0.0, 0.5, 0.0), (0.5, -1.0, 0.5, 0.0), (-1 / 6, 0.5, -0.5, 1 / 6))
_SLOPES = tuple(tuple(power * tap for tap in row) for power, row in enumerate(_WEIGHTS))[1:]


@intrinsic
@no_type_check
def add_taps(context, grid, at, width, tx, ty, amount):  # noqa: ANN001, ANN201, ARG001
    """Add amount · w(tx) · w(ty) to the 4 × 4 values from `at` on, of a flat grid whose rows are `width` long."""
    kind = grid.dtype
    signature = types.void(grid, types.intp, types.intp, kind, kind, kind)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        grid, at, width, tx, ty, amount = arguments
        lanes = _Lanes(context, builder, signature.args[0])
        along_x = lanes.multiply(lanes.polynomial(_WEIGHTS, lanes.spread(tx)), lanes.spread(amount))
        along_y = lanes.polynomial(_WEIGHTS, lanes.spread(ty))
        for row, place in enumerate(lanes.rows(grid, at, width)):
            builder.store(lanes.multiply_add(along_x, lanes.lane(along_y, row), lanes.load(place)), place, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
@no_type_check
def read_taps(context, grid, at, width, tx, ty):  # noqa: ANN001, ANN201, ARG001
    """Give Σ w(tx) w(ty) value of the 4 × 4 values from `at` on, and its derivatives with respect to tx and ty."""
    kind = grid.dtype
    signature = types.UniTuple(kind, 3)(grid, types.intp, types.intp, kind, kind)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        grid, at, width, tx, ty = arguments
        lanes = _Lanes(context, builder, signature.args[0])
        weight_y, slope_y = (lanes.polynomial(table, lanes.spread(ty)) for table in (_WEIGHTS, _SLOPES))
        weight_x, slope_x = (lanes.polynomial(table, lanes.spread(tx)) for table in (_WEIGHTS, _SLOPES))
        column, tilt = lanes.zero, lanes.zero
        for row, place in enumerate(lanes.rows(grid, at, width)):
            values = lanes.load(place)
            column = lanes.multiply_add(values, lanes.lane(weight_y, row), column)
            tilt = lanes.multiply_add(values, lanes.lane(slope_y, row), tilt)
        found = (lanes.dot(column, weight_x), lanes.dot(column, slope_x), lanes.dot(tilt, weight_x))
        return context.make_tuple(builder, signature.return_type, found)

    return signature, generate


class _Lanes:
    """Four numbers of a grid's precision as one LLVM vector, and what is done with them."""

    def __init__(self, context: Any, builder: Any, grid_type: Any) -> None:
        self._context, self._builder, self._grid_type = context, builder, grid_type
        self._type = ir.VectorType(context.get_data_type(grid_type.dtype), _TAPS)
        self._undefined = ir.Constant(self._type, ir.Undefined)
        self.zero = ir.Constant(self._type, [0.0] * _TAPS)

    def spread(self, number: Any) -> Any:
        """Give the same number in all lanes."""
        first = self._builder.insert_element(self._undefined, number, _whole(0))
        return self.lane(first, 0)

    def lane(self, vector: Any, number: int) -> Any:
        """Give one lane's value in all lanes."""
        choice = ir.Constant(ir.VectorType(ir.IntType(32), _TAPS), [number] * _TAPS)
        return self._builder.shuffle_vector(vector, self._undefined, choice)

    def polynomial(self, table: tuple[tuple[float, ...], ...], t: Any) -> Any:
        """Evaluate a polynomial a lane (Horner)."""
        value = ir.Constant(self._type, list(table[-1]))
        for row in reversed(table[:-1]):
            value = self.multiply_add(value, t, ir.Constant(self._type, list(row)))
        return value

    def multiply(self, x: Any, y: Any) -> Any:
        return self._builder.fmul(x, y, flags=_FAST)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        return self._builder.fadd(self.multiply(x, y), z, flags=_FAST)

    def dot(self, x: Any, y: Any) -> Any:
        """Sum the products of the lanes."""
        products = self.multiply(x, y)
        first, *others = (self._builder.extract_element(products, _whole(i)) for i in range(_TAPS))
        for other in others:
            first = self._builder.fadd(first, other, flags=_FAST)
        return first

    def rows(self, grid: Any, at: Any, width: Any) -> Any:
        """Point at the taps of each row."""
        start = self._context.make_array(self._grid_type)(self._context, self._builder, grid).data
        for row in range(_TAPS):
            at = at if row == 0 else self._builder.add(at, width)
            yield self._builder.bitcast(self._builder.gep(start, [at]), self._type.as_pointer())

    def load(self, place: Any) -> Any:
        return self._builder.load(place, align=4)


def _whole(number: int) -> Any:
    return ir.Constant(ir.IntType(32), number)
