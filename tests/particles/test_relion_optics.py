"""Optics groups of STAR files of RELION 3.0 and 3.1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.star_text import ANGLES, CTF, GROUPS, star_table
from kinesphere.particles import ParticleSet


def test_relion_30_counts_origins_in_pixels_of_the_detector_over_the_magnification(
    read: Callable[..., ParticleSet],
) -> None:
    columns = f"ImageName {ANGLES} OriginX OriginY Magnification DetectorPixelSize {CTF}"
    row = "1@a.mrcs 0 0 0 2.0 -4.0 37369.207 5.0 {} 2.7 0.1 12000 11000 30"
    particles = read(star_table(columns, row.format(300), row.format(200), block="images"))
    np.testing.assert_allclose(
        [group.pixel_size_angstrom for group in particles.optics], 1.338, atol=1e-4
    )
    np.testing.assert_allclose(particles.shift_angstrom, [[-2.676, 5.352]] * 2, atol=1e-3)
    assert [particles.optics[i].voltage_kv for i in particles.optics_group] == [300, 200]
    assert len({group.name for group in particles.optics}) == 2


def test_constants_in_the_row_go_before_the_optics_group(read: Callable[..., ParticleSet]) -> None:
    columns = "ImageName OpticsGroup DefocusU DefocusV DefocusAngle SphericalAberration"
    rows = [
        "1@a.mrcs 1 9000 9000 0 2.7",
        "2@a.mrcs 1 9000 9000 0 0.01",
        "3@a.mrcs 2 9000 9000 0 2.7",
    ]
    particles = read(GROUPS, star_table(columns, *rows))
    constants = [particles.optics[i].spherical_aberration_mm for i in particles.optics_group]
    assert constants == [2.7, 0.01, 2.7]
    assert [particles.optics[i].voltage_kv for i in particles.optics_group] == [300, 300, 200]
    assert "row 2 is 0.01" in particles.warnings[0]
