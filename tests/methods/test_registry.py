"""From a configuration to the parts of a model: what was left to the program is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinesphere.methods.config import SegmentsRunConfig
from kinesphere.methods.registry import resolve
from kinesphere.motion.segments import SegmentsConfig


def resolved(n_points: int, n_images: int, **options: Any) -> SegmentsRunConfig:
    config = SegmentsRunConfig(particles=Path("particles.star"), model=Path("model.pdb"), **options)
    return resolve(config, n_points, n_images)


def test_numbers_take_the_place_of_what_was_left_open() -> None:
    config = resolved(214, 4000)
    assert config.segments.n_segments == 13
    assert config.training.latents.n_nodes == 32
    assert config.training.schedule.epochs == 8
    assert config.training.batch_size == 64
    assert resolved(214, 100_000).training.batch_size == 256
    assert resolved(10, 100).segments.n_segments == 4
    assert resolved(14_000, 10**6).segments.n_segments == 32


def test_what_the_user_chose_stays() -> None:
    config = resolved(214, 4000, segments=SegmentsConfig(n_segments=7))
    assert config.segments.n_segments == 7
    assert resolve(config, 1000, 10) == config
