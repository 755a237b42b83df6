"""Small particle sets: that the forward model itself makes, and of given images in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.star_text import ANGLES, star_table
from helpers.toy import checkpoints, make_toy, toy  # noqa: F401 - fixtures
from kinesphere.io.mrc import write_stack
from kinesphere.particles import ParticleSet

PIXEL_ANGSTROM = 2.0
OPTICS = (
    "OpticsGroup OpticsGroupName Voltage SphericalAberration AmplitudeContrast ImagePixelSize "
    "ImageSize"
)


@pytest.fixture
def write_particles() -> Callable[..., ParticleSet]:
    """Write images and their STAR file into a folder, and read them:
    `write_particles(folder, images, shifts_px=…, columns="", values=…)`."""

    def write(
        folder: Path,
        images: NDArray[np.float32],
        shifts_px: NDArray[np.float64] | None = None,
        defocus: float = 12000.0,
        angle: float = 10.0,
    ) -> ParticleSet:
        folder.mkdir(exist_ok=True, parents=True)
        write_stack(folder / "images.mrcs", images, PIXEL_ANGSTROM)
        shifts = np.zeros((len(images), 2)) if shifts_px is None else shifts_px
        rows = [
            f"{row}@images.mrcs 1 {angle * row} 20 30 {-x * PIXEL_ANGSTROM} "
            f"{-y * PIXEL_ANGSTROM} {defocus + row} {defocus} 30"
            for row, (x, y) in enumerate(shifts, start=1)
        ]
        optics = star_table(
            OPTICS,
            f"1 group 300 2.7 0.1 {PIXEL_ANGSTROM} {images.shape[-1]}",
            block="optics",
        )
        columns = f"ImageName OpticsGroup {ANGLES} OriginXAngst OriginYAngst"
        table = star_table(f"{columns} DefocusU DefocusV DefocusAngle", *rows)
        (folder / "particles.star").write_text(optics + table, encoding="utf-8")
        return ParticleSet.read(folder / "particles.star")

    return write
