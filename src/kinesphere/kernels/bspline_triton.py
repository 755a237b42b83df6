"""The cubic B-spline of `bspline` in Triton: weights and slopes by the distance from the point to
the tap.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def weight(offset):
    """Give the weight of a tap `offset` above the point; NaN stays NaN."""
    distance = tl.abs(offset)
    rest = 2.0 - distance
    near = 2.0 / 3.0 - distance * distance * (1.0 - 0.5 * distance)
    return tl.where(distance >= 2.0, 0.0, tl.where(distance < 1.0, near, rest * rest * rest / 6.0))


@triton.jit
@no_type_check
def slope(offset):
    """Differentiate the weight of a tap `offset` above the point with respect to the point."""
    distance = tl.abs(offset)
    rest = 2.0 - distance
    fall = tl.where(distance < 1.0, distance * (2.0 - 1.5 * distance), 0.5 * rest * rest)
    return tl.where(distance >= 2.0, 0.0, tl.where(offset < 0.0, -fall, fall))
