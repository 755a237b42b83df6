"""A recipe refuses numbers that cannot be meant, and names the option."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.simulated import SMALL
from kinesphere.errors import InputError
from kinesphere.simulate.recipe import Recipe


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"n": 0}, "--n"),
        ({"box": 33}, "--box"),
        ({"snr": 0.0}, "--snr"),
        ({"pixel_size": -1.0}, "--pixel"),
    ],
)
def test_numbers_that_cannot_be_meant(change: dict[str, float], option: str) -> None:
    with pytest.raises(InputError, match=f"^{option}"):
        replace(SMALL, **change)


def test_each_next_optics_group_has_less_voltage() -> None:
    recipe = Recipe(optics_groups=4)
    assert [recipe.group_voltage_kv(group) for group in range(4)] == [300, 200, 100, 300]
