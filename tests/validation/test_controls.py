"""Which images the controls score: drawn once, in the order of the set."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.validation.controls import choose_rows
from kinesphere.validation.options import FEWEST_IMAGES, NullSettings


def test_images_are_drawn_once_and_in_order() -> None:
    rows = choose_rows(500, NullSettings(n_images=100))
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, choose_rows(500, NullSettings(n_images=100)))
    assert not np.array_equal(rows, choose_rows(500, NullSettings(n_images=100, seed=1)))


def test_a_small_set_is_scored_as_a_whole() -> None:
    np.testing.assert_array_equal(choose_rows(50, NullSettings()), np.arange(50))


def test_a_tiny_set_is_refused() -> None:
    with pytest.raises(InputError, match="too small"):
        choose_rows(FEWEST_IMAGES - 1, NullSettings())
