"""What inspection finds in a set with something wrong with it, and that it finds nothing in a sound
one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinesphere.io.mrc import write_stack
from kinesphere.particles import ParticleSet
from kinesphere.particles.inspection import inspect_particles

BOX = 32


@pytest.fixture
def particles(make_particles: Callable[..., ParticleSet]) -> ParticleSet:
    """Hold forty images of a bright blob in noise, in different orientations."""
    rng = np.random.default_rng(0)
    axis = np.arange(BOX) - BOX // 2
    blob = np.exp(-(axis**2 + axis[:, None] ** 2) / 50)
    images = (blob + rng.normal(size=(40, BOX, BOX))).astype(np.float32)
    sound = make_particles((images, 2.0))
    turned = np.roll(sound.rotation, 1, axis=2)
    turned[::2] = np.eye(3)
    return replace(sound, rotation=turned)


def test_nothing_is_odd_about_a_sound_set(particles: ParticleSet) -> None:
    found = inspect_particles(particles)
    assert found.warnings == []
    assert found.file["n_particles"] == found.images["n_distinct"] == 40
    assert found.optics_groups[0]["nyquist_angstrom"] == 4.0
    assert found.contrast is not None
    assert found.contrast["sign"] == 1
    assert found.ctf["defocus_median_angstrom"] == 14750
    assert found.halves == {"1": 0, "2": 0, "none": 40}


def test_missing_images_are_said_and_the_rest_is_still_found(particles: ParticleSet) -> None:
    (particles.source.parent / "group1.mrcs").unlink()
    found = inspect_particles(ParticleSet.read(particles.source)[1:])
    assert found.contrast is None
    assert found.images["n_missing_stacks"] == 1
    assert "stack not found: group1.mrcs" in found.warnings
    assert found.optics_groups[0]["n_particles"] == 39


def test_short_stack_and_wrong_box_are_said(particles: ParticleSet) -> None:
    write_stack(particles.source.parent / "group1.mrcs", np.ones((39, BOX, BOX), np.float32), 2.0)
    assert (
        "row 40 asks for image 40"
        in inspect_particles(ParticleSet.read(particles.source)).warnings[0]
    )
    write_stack(particles.source.parent / "group1.mrcs", np.ones((40, 16, 16), np.float32), 2.0)
    warnings = inspect_particles(ParticleSet.read(particles.source)).warnings
    assert any("16 x 16 px, not 32" in warning for warning in warnings)


def _with_optics(particles: ParticleSet, **fields: float) -> ParticleSet:
    return replace(particles, optics=tuple(replace(group, **fields) for group in particles.optics))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda p: _with_optics(p, spherical_aberration_mm=0.01),
            "spherical aberration of 0.01 mm",
        ),
        (lambda p: _with_optics(p, voltage_kv=300000.0), "voltage of 300000 kV"),
        (lambda p: _with_optics(p, amplitude_contrast=10.0), "amplitude contrast of 10"),
        (lambda p: _with_optics(p, pixel_size_angstrom=20.0), "pixel size of 20 Å"),
        (lambda p: _with_optics(p, is_phase_flipped=True), "not modelled.*PhaseFlipped"),
        (lambda p: replace(p, rotation=np.tile(np.eye(3), (40, 1, 1))), "same orientation"),
        (
            lambda p: replace(p, shift_angstrom=np.full((40, 2), 33.0)),
            "40 particles are shifted out",
        ),
        (
            lambda p: replace(
                p, defocus_u_angstrom=np.full(40, -2e4), defocus_v_angstrom=np.full(40, -2e4)
            ),
            "-20000 Å",
        ),
        (lambda p: replace(p, half=np.ones(40, dtype=np.int64)), "there is no other half"),
        (lambda p: replace(p, half=np.repeat([1, 2], [10, 30])), "unequal: 10 and 30"),
        (
            lambda p: replace(p, half=np.repeat([0, 1, 2], [10, 15, 15])),
            "10 particles belong to no half",
        ),
        (lambda p: p[np.r_[0:40, 0:5]], "5 of 45 particles repeat an image"),
        (lambda p: replace(p, recorded_sign=-1), "blob/sign says"),
        (lambda p: replace(p, has_ctf=False), "no CTF"),
    ],
)
def test_each_oddity_is_told(
    particles: ParticleSet, change: Callable[[ParticleSet], ParticleSet], words: str
) -> None:
    warnings = inspect_particles(change(particles)).warnings
    assert len([warning for warning in warnings if re.search(words, warning)]) == 1


def test_dark_molecule_is_told(particles: ParticleSet) -> None:
    stack = particles.source.parent / "group1.mrcs"
    write_stack(stack, -particles.images(np.arange(40)), 2.0)
    found = inspect_particles(ParticleSet.read(particles.source))
    assert found.contrast is not None
    assert found.contrast["sign"] == -1
    assert any("--invert-contrast" in warning for warning in found.warnings)


@pytest.mark.parametrize(("pixel_size", "told"), [("1.96", True), ("15.68", False)])
def test_binning_in_a_name_is_compared_with_the_pixel_size(
    tmp_path: Path, pixel_size: str, *, told: bool
) -> None:
    path = tmp_path / "a.star"
    path.write_text(
        f"data_\nloop_\n_rlnImageName\n_rlnPixelSize\n1@ribosome_bin8_it09.mrcs {pixel_size}\n"
    )
    warnings = inspect_particles(ParticleSet.read(path)).warnings
    assert any("is the pixel 15.68 Å?" in warning for warning in warnings) == told
