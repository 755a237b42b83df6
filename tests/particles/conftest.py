"""Small particle sets written to disk, as RELION would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.star_text import ANGLES, GROUPS, star_table
from kinesphere.io.mrc import write_stack
from kinesphere.particles import ParticleSet

Group = tuple[NDArray[np.float32], float]
COLUMNS = [
    *("rlnImageName", "rlnMicrographName", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"),
    *("rlnOriginXAngst", "rlnOriginYAngst"),
    *("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "rlnOpticsGroup"),
]
OPTICS_COLUMNS = [
    *(
        "rlnOpticsGroup",
        "rlnOpticsGroupName",
        "rlnVoltage",
        "rlnSphericalAberration",
        "rlnAmplitudeContrast",
    ),
    *("rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality"),
]


def _loop(block: str, columns: list[str], rows: list[str]) -> str:
    header = "\n".join(f"_{name} #{number}" for number, name in enumerate(columns, 1))
    return f"\ndata_{block}\n\nloop_\n{header}\n" + "\n".join(rows) + "\n\n"


def write_particle_star(
    folder: Path, groups: list[Group], shifts_px: tuple[float, float] = (0.0, 0.0)
) -> Path:
    """Write one stack an optics group, (images, Å/px), and one STAR file; `shifts_px` is where the
    molecules sit."""
    optics, rows = [], []
    for number, (images, pixel_size) in enumerate(groups, 1):
        write_stack(folder / f"group{number}.mrcs", images, pixel_size)
        optics.append(
            f"{number} opticsGroup{number} 300.0 2.7 0.1 {pixel_size} {images.shape[-1]} 2"
        )
        origin = " ".join(f"{-shift * pixel_size:.6f}" for shift in shifts_px)
        rows += [
            f"{row:06d}@group{number}.mrcs mic_{row}.mrc 10.0 20.0 30.0 {origin} 15000 14500 "
            f"30.0 0.0 {number}"
            for row in range(1, len(images) + 1)
        ]
    path = folder / "particles.star"
    path.write_text(_loop("optics", OPTICS_COLUMNS, optics) + _loop("particles", COLUMNS, rows))
    return path


@pytest.fixture
def make_particles(tmp_path: Path) -> Callable[..., ParticleSet]:
    """Make a particle set from (images, Å/px) of each optics group."""

    def make(*groups: Group, shifts_px: tuple[float, float] = (0.0, 0.0)) -> ParticleSet:
        return ParticleSet.read(write_particle_star(tmp_path, list(groups), shifts_px))

    return make


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ParticleSet]:
    """Read a particle set from the text of its STAR file."""

    def _read(*text: str, **options: float) -> ParticleSet:
        path = tmp_path / "particles.star"
        path.write_text("".join(text))
        return ParticleSet.read(path, **options)

    return _read


@pytest.fixture
def posed(read: Callable[..., ParticleSet], tmp_path: Path) -> ParticleSet:
    """Six particles in two groups and stacks, each image filled with its own number; two columns
    nobody knows."""
    (tmp_path / "stacks").mkdir()
    write_stack(
        tmp_path / "stacks" / "a.mrcs", np.full((3, 8, 8), [[[1]], [[2]], [[3]]], np.float32), 1.5
    )
    write_stack(
        tmp_path / "stacks" / "b.mrcs", np.full((3, 8, 8), [[[4]], [[5]], [[6]]], np.float32), 2.0
    )
    names = [
        "2@stacks/a.mrcs",
        "3@stacks/b.mrcs",
        "1@stacks/a.mrcs",
        "1@stacks/b.mrcs",
        "3@stacks/a.mrcs",
    ]
    rows = [
        f"{name} {1 + ('b' in name)} {10 * i} {20 * i} {30 * i} {i} {-i} 12000.10 11000 30 "
        f"{1 + i % 2} x{i} '{i} y'"
        for i, name in enumerate([*names, "2@stacks/b.mrcs"])
    ]
    columns = (
        f"ImageName OpticsGroup {ANGLES} OriginXAngst OriginYAngst DefocusU DefocusV "
        "DefocusAngle RandomSubset"
    )
    return read(GROUPS, star_table(f"{columns} GroupName Remark", *rows))
