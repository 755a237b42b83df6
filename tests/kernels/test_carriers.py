"""Sums over each point's anchors, against the same one by one."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.kernels.carriers import TERMS, carry


@pytest.mark.parametrize(("n_images", "n_values"), [(1, 3), (25, 3), (40, 2), (7, 1)])
def test_blocks_of_images_of_any_number_are_carried(n_images: int, n_values: int) -> None:
    draw = np.random.default_rng(0)
    index = draw.integers(30, size=(50, TERMS)).astype(np.int32)
    weight = draw.normal(size=(50, TERMS)).astype(np.float32)
    displacement = draw.normal(size=(n_images, 30, n_values))
    expected = np.zeros((n_images, 50, n_values))
    for point in range(50):
        for term in range(TERMS):
            expected[:, point] += weight[point, term] * displacement[:, index[point, term]]
    for implementation in (carry, carry.reference):
        found = implementation(index, weight, displacement)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)
