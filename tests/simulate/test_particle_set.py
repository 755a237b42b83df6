"""A simulated set read as any other one tells the poses, halves and optics it was made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kinesphere.io.mrc import ImageStack
from kinesphere.particles import ParticleSet
from kinesphere.simulate.dataset import write_dataset
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.recipe import Recipe


def test_particle_set_reads_back_what_was_drawn(tmp_path: Path) -> None:
    recipe = Recipe(n=12, box=32, pixel_size=3.5, optics_groups=2, phase_shift_degrees=30.0)
    draws = write_dataset(tmp_path, adenylate_kinase(3), recipe, "A test.")
    particles = ParticleSet.read(tmp_path / "particles.star")
    assert np.allclose(particles.rotation, draws.rotation, atol=1e-7)
    assert np.allclose(particles.shift_angstrom, draws.shift_angstrom, atol=1e-6)
    assert np.allclose(particles.defocus_u_angstrom, draws.defocus_u_angstrom, atol=1e-3)
    assert np.allclose(particles.phase_shift_degrees, 30)
    assert np.array_equal(particles.half, draws.half)
    assert [group.voltage_kv for group in particles.optics] == [300, 200]
    assert np.array_equal(
        particles.images(np.array([7, 2])), ImageStack(tmp_path / "particles.mrcs")[[7, 2]]
    )
