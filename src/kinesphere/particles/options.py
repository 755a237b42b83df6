"""How particle images are read and processed: what the user may choose."""

from __future__ import annotations

from dataclasses import dataclass

# RELION's choice on extraction.
BACKGROUND_FRACTION = 0.75


@dataclass(frozen=True)
class LoaderOptions:
    """How images are read, processed and put into batches."""

    batch_size: int = 64
    """Images a batch; the last batch of an epoch holds what is left."""
    shuffle: bool = True
    """Draw a new order each epoch, from the seed and the epoch's number alone."""
    seed: int = 0
    """Seed of the order."""
    box_px: int | None = None
    """Fourier-crop to this even box; None keeps the box."""
    normalise: bool = True
    """Give the background of each image zero mean and unit standard deviation."""
    remove_ramp: bool = False
    """Subtract the plane that fits the background best."""
    background_radius_fraction: float = BACKGROUND_FRACTION
    """Pixels further from the centre than this fraction of half the box are background."""
    invert_contrast: bool = False
    """Change the sign of the images, for stacks where the molecule is dark."""
    centre: bool = False
    """Shift each image so that the molecule's centre is at pixel box // 2."""
    preload_bytes: int = 0
    """Keep the processed images in memory if all of them take no more than this."""
    prefetch: int = 2
    """Batches made ahead in a background thread; 0 makes each when it is asked for."""
