"""Particle sets slice like an array, and their images fit what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.io.mrc import write_stack
from kinesphere.particles import ParticleSet


def test_slices_keep_every_attribute_in_step(posed: ParticleSet) -> None:
    order = [4, 0, 3]
    chosen = posed[order]
    for name in (
        "rotation",
        "shift_angstrom",
        "defocus_u_angstrom",
        "optics_group",
        "half",
        "row",
        "image_slot",
    ):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(posed, name)[order])
    assert len(posed[posed.half == 1]) == 3
    assert len(posed[2]) == 1
    assert posed[1:][0].row.tolist() == [1]
    assert len(posed[[]]) == 0
    with pytest.raises(IndexError):
        posed[[6]]


def test_boxes_that_do_not_fit(posed: ParticleSet, tmp_path: Path) -> None:
    write_stack(tmp_path / "stacks" / "b.mrcs", np.ones((3, 6, 6), np.float32), 2.0)
    posed = ParticleSet.read(posed.source)
    with pytest.raises(InputError, match="6 x 6 px, others are 8 px"):
        posed.images([0, 1])
    with pytest.raises(InputError, match="box of second is 8 px, its images are 6 px"):
        posed.images([1, 3])
