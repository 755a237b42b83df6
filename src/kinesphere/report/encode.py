"""Arrays as text that the page's scripts decode: little-endian bytes in base 64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from jaxtyping import Shaped

INT16_MAXIMUM = 32767


def encode_array(array: Shaped[np.ndarray, "*shape"], dtype: str = "f4") -> dict[str, Any]:
    """Encode an array for JSON.

    Parameters
    ----------
    array
        Any numbers.
    dtype
        `f4`, `i2`, `i4` or `u1`.

    Returns
    -------
    dict
        `dtype`, `shape` and `data`.
    """
    packed = np.ascontiguousarray(array, np.dtype(f"<{dtype}"))
    return {
        "dtype": dtype,
        "shape": list(packed.shape),
        "data": base64.b64encode(packed.tobytes()).decode("ascii"),
    }


def encode_scaled(array: Shaped[np.ndarray, "*shape"]) -> dict[str, Any]:
    """Encode real numbers as 16-bit integers with one scale; the error is at most 1/65534 of the
    largest entry.
    """
    largest = float(np.abs(array).max(initial=0.0)) or 1.0
    return {
        **encode_array(np.round(array / largest * INT16_MAXIMUM), "i2"),
        "scale": largest / INT16_MAXIMUM,
    }
