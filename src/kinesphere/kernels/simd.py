"""Several numbers as one LLVM vector, for loops whose body is a few vector instructions that
compilers do not find.

An intrinsic of numba writes its body with `Lanes`: numbers that lie side by side in an array are
loaded, combined and stored together. LLVM splits vectors that a processor does not have into ones
that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

_FAST = ("contract", "reassoc", "nsz")  # what `compiled` allows


class Lanes:
    """A number of lanes of an array's precision, and what is done with them.

    Parameters
    ----------
    context, builder
        As numba hands them to an intrinsic.
    array_type
        Numba's type of the arrays, contiguous, that are read and written.
    count
        Numbers in a vector.
    """

    def __init__(self, context: Any, builder: Any, array_type: Any, count: int) -> None:
        self._context = context
        self._builder = builder
        self._array_type = array_type
        self._count = count
        self._type = ir.VectorType(context.get_data_type(array_type.dtype), count)
        self._undefined = ir.Constant(self._type, ir.Undefined)
        self.zero = self.constant([0.0] * count)

    def constant(self, numbers: Sequence[float]) -> Any:
        """Give known numbers, one a lane."""
        return ir.Constant(self._type, list(numbers))

    def spread(self, *numbers: Any) -> Any:
        """Give these numbers, over and over."""
        vector = self._undefined
        for lane, number in enumerate(numbers):
            vector = self._builder.insert_element(vector, number, _whole(lane))
        return self._choose(vector, [lane % len(numbers) for lane in range(self._count)])

    def lane(self, vector: Any, number: int) -> Any:
        """Give one lane's value in all lanes."""
        return self._choose(vector, [number] * self._count)

    def polynomial(self, table: Sequence[Sequence[float]], t: Any) -> Any:
        """Evaluate a polynomial a lane (Horner); of each power, constant term first, the
        coefficients of the lanes.
        """
        value = self.constant(table[-1])
        for row in reversed(table[:-1]):
            value = self.multiply_add(value, t, self.constant(row))
        return value

    def multiply(self, x: Any, y: Any) -> Any:
        """Give x · y."""
        return self._builder.fmul(x, y, flags=_FAST)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """Give x · y + z."""
        return self._builder.fadd(self.multiply(x, y), z, flags=_FAST)

    def dot(self, x: Any, y: Any) -> Any:
        """Sum the products of the lanes."""
        products = self.multiply(x, y)
        first, *others = (
            self._builder.extract_element(products, _whole(lane)) for lane in range(self._count)
        )
        for other in others:
            first = self._builder.fadd(first, other, flags=_FAST)
        return first

    def place(self, array: Any, at: Any) -> Any:
        """Point at the numbers of a flat array from position `at` on."""
        start = self._context.make_array(self._array_type)(self._context, self._builder, array).data
        return self._builder.bitcast(self._builder.gep(start, [at]), self._type.as_pointer())

    def load(self, place: Any) -> Any:
        """Read one number a lane."""
        return self._builder.load(place, align=self._array_type.dtype.bitwidth // 8)

    def store(self, vector: Any, place: Any) -> None:
        """Write one number a lane."""
        self._builder.store(vector, place, align=self._array_type.dtype.bitwidth // 8)

    def _choose(self, vector: Any, lanes: list[int]) -> Any:
        choice = ir.Constant(ir.VectorType(ir.IntType(32), self._count), lanes)
        return self._builder.shuffle_vector(vector, self._undefined, choice)


def number_at(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """Read one number of a flat array, in an intrinsic."""
    start = context.make_array(array_type)(context, builder, array).data
    return builder.load(builder.gep(start, [at]))


def _whole(number: int) -> Any:
    return ir.Constant(ir.IntType(32), number)
