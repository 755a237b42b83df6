"""Arrays come back from the page's text, and only epochs that can be compared make a curve."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from kinesphere.report.payload import encode_array, encode_scaled, training_curves


def test_scaled_integers_keep_five_digits() -> None:
    values = np.random.default_rng(1).normal(0, 7, (40, 3))
    packed = encode_scaled(values)
    decoded = np.frombuffer(base64.b64decode(packed["data"]), "<i2").reshape(packed["shape"])
    assert decoded * packed["scale"] == pytest.approx(
        values, abs=np.abs(values).max() / 65534 * 1.001
    )
    assert encode_array(np.array([1, 2]), "u1")["data"] == "AQI="


def test_likelihoods_at_low_resolution_are_left_out() -> None:
    curves = training_curves(
        {
            "epoch": np.array([1.0, 2.0, 3.0, 4.0]),
            "shells": np.array([8.0, 8.0, 19.0, 19.0]),
            "log_likelihood": np.array([-10.0, -9.0, -55.0, -54.0]),
            "divergence": np.zeros(4),
            "seconds": np.array([1.0, 2.0, 3.0, 4.0]),
        }
    )
    (series,) = curves["series"]
    assert series["values"] == [None, None, -55.0, -54.0]
