"""Images are read lazily, found wherever the file went, and refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.io.mrc import write_stack
from kinesphere.particles import ParticleSet


def test_images_come_in_the_order_asked_for(posed: ParticleSet) -> None:
    assert posed.images(np.arange(6))[:, 0, 0].tolist() == [2, 6, 1, 4, 3, 5]
    assert posed[::-1].images([0, 5, 2])[:, 3, 4].tolist() == [5, 2, 4]
    assert posed.images([4]).dtype == np.float32


def test_images_are_found_from_a_copy_elsewhere(
    posed: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the project, from the project as the current folder, and from anywhere through the
    noted folder."""
    posed.write_star(tmp_path / "Refine3D" / "job001" / "below.star")
    assert (
        ParticleSet.read(tmp_path / "Refine3D" / "job001" / "below.star").images([0])[0, 0, 0] == 2
    )
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    posed.write_star(elsewhere / "noted.star")
    assert ParticleSet.read(elsewhere / "noted.star").images([0])[0, 0, 0] == 2
    (elsewhere / "bare.star").write_text(posed.source.read_text())
    with pytest.raises(InputError, match="stacks/a.mrcs, which is in none of"):
        ParticleSet.read(elsewhere / "bare.star").images([0])
    monkeypatch.chdir(tmp_path)
    assert ParticleSet.read(elsewhere / "bare.star").images([0])[0, 0, 0] == 2


def test_stack_shorter_than_the_file_asks_for(posed: ParticleSet, tmp_path: Path) -> None:
    write_stack(tmp_path / "stacks" / "b.mrcs", np.ones((2, 8, 8), np.float32), 2.0)
    with pytest.raises(InputError, match="row 2 asks for image 3 of .*b.mrcs, which holds 2"):
        ParticleSet.read(posed.source).images(np.arange(6))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_named(
    posed: ParticleSet, tmp_path: Path, value: float
) -> None:
    images = np.ones((3, 8, 8), np.float32)
    images[2, 4, 4] = value
    write_stack(tmp_path / "stacks" / "a.mrcs", images, 1.5)
    posed.images([0, 1, 2, 3])
    with pytest.raises(
        InputError, match=r"a.mrcs: image 3 \(row 5 of .*particles.star\) holds NaN or infinite"
    ):
        posed.images([0, 4])
