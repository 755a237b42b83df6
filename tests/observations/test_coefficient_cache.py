"""Which prepared images serve a run: those of the same pixels and shifts, poses and CTF aside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere.errors import InputError
from kinesphere.observations.coefficient_cache import CACHE_FILE, open_cache, origin_of
from kinesphere.observations.coefficient_file import coefficient_writer
from kinesphere.particles import ParticleSet

ORIGIN = {"format": "1", "particles": "a", "images": "b", "normalise": "True", "shells": "13"}
Write = Callable[..., ParticleSet]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A complete file."""
    coefficients = torch.randn(23, 301, dtype=torch.complex64)
    file = tmp_path / CACHE_FILE
    with coefficient_writer(file, 23, 301, ORIGIN) as writer:
        writer.write(coefficients)
    return file


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 16, 16)).astype(np.float32)


def same_stack(source: Path, target: Path) -> None:
    """Copy a stack: the header of one that is written anew has the time in it."""
    shutil.copyfile(source / "images.mrcs", target / "images.mrcs")


def test_poses_and_ctf_may_change_and_the_project_may_move(
    write_particles: Write, tmp_path: Path
) -> None:
    first = origin_of(write_particles(tmp_path / "a", noise()), box=16)
    refined = write_particles(tmp_path / "b", noise(), defocus=9000.0, angle=17.0)
    same_stack(tmp_path / "a", tmp_path / "b")
    assert origin_of(refined, box=16) == first
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    moved = ParticleSet.read(tmp_path / "elsewhere" / "particles.star")
    assert origin_of(moved, box=16) == first


def test_what_the_images_follow_from_may_not_change(write_particles: Write, tmp_path: Path) -> None:
    particles = write_particles(tmp_path / "a", noise())
    first = origin_of(particles, box=16)
    shifted = write_particles(tmp_path / "b", noise(), np.ones((5, 2)))
    same_stack(tmp_path / "a", tmp_path / "b")
    others = write_particles(tmp_path / "c", noise(seed=1))
    changed = {
        "particles": [origin_of(shifted, box=16), origin_of(particles[:4], box=16)],
        "images": [origin_of(others, box=16)],
        "box": [origin_of(particles, box=14)],
    }
    for name, origins in changed.items():
        for origin in origins:
            assert {key for key in first if origin[key] != first[key]} == {name}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="there is no such file. Make it with kinesphere preprocess --cache"
    ):
        open_cache(tmp_path, ORIGIN)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": "2"}, "another version"),
        ({"particles": "c"}, "other particles"),
        ({"images": "c"}, "other images"),
        ({"normalise": "False"}, "normalise True, not False"),
        ({"shells": "14"}, "shells 13, not 14"),
    ],
)
def test_a_stale_file_is_refused(path: Path, changed: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_cache(path, ORIGIN | changed)


def test_a_finer_file_serves_a_coarser_run(path: Path) -> None:
    assert len(open_cache(path.parent, ORIGIN | {"shells": "9"})) == 23
