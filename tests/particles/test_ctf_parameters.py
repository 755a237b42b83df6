"""CTF parameters of particles, those of their optics group included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from helpers.star_text import GROUPS, star_table
from kinesphere.errors import InputError
from kinesphere.particles import ParticleSet
from kinesphere.particles.ctf_parameters import ctf_parameters


def test_ctf_parameters_carry_the_group_and_radians(
    make_particles: Callable[..., ParticleSet],
) -> None:
    particles = make_particles(
        (np.ones((2, 16, 16), np.float32), 4.0), (np.ones((3, 16, 16), np.float32), 3.0)
    )
    parameters = ctf_parameters(particles, np.array([1, 4]))
    assert len(parameters) == 2
    torch.testing.assert_close(parameters.defocus_angle_radians, torch.full((2,), torch.pi / 6))
    torch.testing.assert_close(parameters.voltage_kv, torch.full((2,), 300.0))
    torch.testing.assert_close(parameters.defocus_u_angstrom, torch.full((2,), 15000.0))


def test_each_particle_has_the_constants_of_its_group(read: Callable[..., ParticleSet]) -> None:
    columns = "ImageName OpticsGroup DefocusU DefocusV DefocusAngle"
    particles = read(
        GROUPS, star_table(columns, "1@a.mrcs 1 12000 11000 30", "2@a.mrcs 2 9000 9000 0")
    )
    parameters = ctf_parameters(particles)
    torch.testing.assert_close(parameters.voltage_kv, torch.tensor([300.0, 200.0]))
    torch.testing.assert_close(parameters.spherical_aberration_mm, torch.tensor([2.7, 2.0]))
    torch.testing.assert_close(parameters.amplitude_contrast, torch.tensor([0.1, 0.07]))


def test_a_set_without_ctf_is_refused(read: Callable[..., ParticleSet]) -> None:
    with pytest.raises(InputError, match="has no CTF parameters. Use a file with defocus"):
        ctf_parameters(read(GROUPS, star_table("ImageName OpticsGroup", "1@a.mrcs 1")))
