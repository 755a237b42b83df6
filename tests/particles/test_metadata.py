"""What readers return is what particle sets are made of, and any source can be written from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers.star_text import ANGLES, GROUPS, star_table
from kinesphere.particles import ParticleSet
from kinesphere.particles.metadata import ParticleMetadata, ParticleTable
from kinesphere.particles.relion import read_relion_particles


def test_a_particle_set_is_its_metadata(read: Callable[..., ParticleSet], tmp_path: Path) -> None:
    columns = f"ImageName {ANGLES} OriginXAngst OriginYAngst OpticsGroup"
    particles = read(
        GROUPS, star_table(columns, "1@a.mrcs 30 40 50 3 -1.5 2", "2@a.mrcs 0 0 0 0 0 1")
    )
    metadata = read_relion_particles(particles.source)
    assert type(metadata) is ParticleMetadata
    assert isinstance(metadata.table, ParticleTable)
    assert len(metadata) == len(particles) == 2
    np.testing.assert_array_equal(metadata.rotation, particles.rotation)
    np.testing.assert_array_equal(metadata.shift_angstrom, particles.shift_angstrom)
    assert metadata.optics == particles.optics
    metadata.table.write_star(tmp_path / "copy.star", metadata, {}, None)
    particles.write_star(tmp_path / "set.star")
    assert (tmp_path / "copy.star").read_bytes() == (tmp_path / "set.star").read_bytes()
