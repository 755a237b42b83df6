"""From options to the parts of a model: what was left to the program is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinesphere.errors import InputError
from kinesphere.methods.registry import METHOD_NAMES, method_class, method_of
from kinesphere.methods.segments import Segments, SegmentsConfig, SegmentsOptions


def resolved(n_points: int, n_images: int, **options: Any) -> SegmentsOptions:
    chosen = SegmentsOptions(particles=Path("particles.star"), model=Path("model.pdb"), **options)
    return Segments(chosen).resolved(n_points, n_images).options


def test_numbers_take_the_place_of_what_was_left_open() -> None:
    options = resolved(214, 4000)
    assert options.segments.n_segments == 13
    assert options.training.latents.n_dimensions == 6
    assert options.training.schedule.epochs == 14
    assert options.training.batch_size == 64
    assert resolved(214, 100_000).training.batch_size == 256
    assert resolved(10, 100).segments.n_segments == 4
    assert resolved(14_000, 10**6).segments.n_segments == 218


def test_what_the_user_chose_stays() -> None:
    options = resolved(214, 4000, segments=SegmentsConfig(n_segments=7))
    assert options.segments.n_segments == 7
    assert Segments(options).resolved(1000, 10).options == options


def test_a_method_is_found_by_the_name_that_it_has_itself() -> None:
    for name in METHOD_NAMES:
        assert method_class(name).name == name
        assert method_class(name).summary.endswith(".")


def test_a_run_of_an_unknown_method_says_which_are_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no known method \('dance'\)") as error:
        method_of(tmp_path, {"method": "dance"})
    assert all(name in str(error.value) for name in METHOD_NAMES)
