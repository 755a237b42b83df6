"""Options of the images: which part of them is used, and where they are kept once prepared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinesphere.config import Advanced

Place = Literal["auto", "exact", "memory", "disk", "gpu"]


@dataclass(frozen=True)
class ImagesConfig:
    """Which part of the images is used, and how they are prepared."""

    resolution_angstrom: float = 5.0
    """Finest resolution used, in Å; one Gaussian a residue explains nothing finer. Coarser where
    the pixels are."""
    normalise: Advanced[bool] = True
    """Give the background of each image zero mean and unit standard deviation first."""
    invert_contrast: bool = False
    """Change the sign of the images: for stacks in which the molecule is dark."""
    ignore_aberrations: Advanced[bool] = False
    """Go on although beam tilt, anisotropic magnification or other aberrations are recorded; they
    are left out."""
    coefficients: Advanced[Place] = "auto"
    """Where the prepared images are kept: `exact` (float32 in memory), as float16 in `memory`, on
    `disk` or on the `gpu`. `auto`: exact, else float16 in memory, else on disk, as
    --memory-gigabytes allows; and on a GPU that has room."""
    memory_gigabytes: Advanced[float] = 4.0
    """Memory for prepared images where --coefficients is left to the program."""
    cache: Path | None = None
    """File of images that `preprocess --cache` has prepared, or its folder; none: they are prepared
    here, on disk in a file of the run folder that goes with the program."""
