"""Small particle sets written to disk, as RELION would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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
