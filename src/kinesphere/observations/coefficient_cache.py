"""Prepared images in a file of their own, made once for any number of runs, and refused where it is
of other images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kinesphere.errors import InputError
from kinesphere.observations.coefficient_file import open_coefficients
from kinesphere.observations.coefficients import HalfCoefficients
from kinesphere.particles.particle_set import ParticleSet

CACHE_FILE = "coefficients.safetensors"
SHELLS = "shells"
_SAMPLES = 8
_SAMPLE_BYTES = 4096
_PROBLEM_OF = {
    "format": "was made by another version of kinesphere",
    "particles": "was made from other particles, or from the same with other shifts",
    "images": "was made from other images",
}


def origin_of(particles: ParticleSet, **options: object) -> dict[str, str]:
    """Describe what prepared images follow from; poses and CTF are not part of it, shifts are.

    Parameters
    ----------
    particles
        The particles. Of each stack the size and eight samples count, not its name or place, so
        that a project may be moved; a change between the samples goes unseen.
    options
        How the images are prepared.
    """
    table = hashlib.sha256()
    for column in (
        particles.image_file,
        particles.image_slot,
        particles.shift_angstrom,
        particles.optics_group,
    ):
        table.update(np.ascontiguousarray(column).tobytes())
    for group in particles.optics:
        table.update(f"{group.pixel_size_angstrom!r} {group.box_px}".encode())
    images = hashlib.sha256()
    for file in np.unique(particles.image_file).tolist():
        _add_samples(images, particles.files.stack(file).path)
    described = {"format": "1", "particles": table.hexdigest(), "images": images.hexdigest()}
    return described | {name: str(value) for name, value in options.items()}


def _add_samples(digest: hashlib._Hash, stack: Path) -> None:
    size = stack.stat().st_size
    digest.update(str(size).encode())
    with stack.open("rb") as file:
        for place in (
            np.linspace(0, max(size - _SAMPLE_BYTES, 0), _SAMPLES).astype(np.int64).tolist()
        ):
            file.seek(place)
            digest.update(file.read(_SAMPLE_BYTES))


def open_cache(path: Path, expected: Mapping[str, str]) -> HalfCoefficients:
    """Open a file of prepared images.

    Parameters
    ----------
    path
        The file, or the folder that holds it.
    expected
        What it should be made from (`origin_of`). One of more resolution shells serves too:
        coefficients are sorted by resolution.

    Raises
    ------
    InputError
        If it is missing, damaged, or of something else.
    """
    path = path / CACHE_FILE if path.is_dir() else path
    coefficients, origin = open_coefficients(path)
    for name, value in expected.items():
        found = origin.get(name, "unknown")
        enough = name == SHELLS and found.isdecimal() and int(found) >= int(value)
        if found != value and not enough:
            problem = _PROBLEM_OF.get(name, f"was made with {name} {found}, not {value}")
            raise InputError(
                path, problem, "Make it again with kinesphere preprocess --cache --overwrite"
            )
    return coefficients
