"""How many latent dimensions the images of a run asked for, and how that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinesphere.runs.halves import ALL_IMAGES
from kinesphere.runtime import atomic_write
from kinesphere.training.dimension import count_telling

LATENT_DIMENSION_FILE = "latent_dimension.json"


@dataclass(frozen=True)
class LatentDimension:
    """What the latent dimensions of a model add to held-out coefficients.

    Parameters
    ----------
    gains
        Nats an image, and standard error, of each dimension that is kept; then of one that is not,
        where there was one.
    """

    gains: Sequence[tuple[float, float]]

    @property
    def count(self) -> int:
        """Number of dimensions; 0: nothing moves that the images show."""
        return count_telling(self.gains)

    def summary(self) -> str:
        """Say in a line how many there are, and why."""
        figures = [f"{gain:.2f} ± {error:.2f}" for gain, error in self.gains]
        kept, left = figures[: self.count], figures[self.count :]
        where = "nats an image to coefficients held out from images that trained nothing"
        if not kept:
            return f"Latent dimensions: none. A first one adds {left[0]} {where}"
        text = f"Latent dimensions: {len(kept)}. They add {', '.join(kept)} {where}"
        return text if not left else f"{text}; one more adds {left[0]}, and is left out"


def save_latent_dimensions(folder: Path, found: Mapping[int, LatentDimension]) -> None:
    """Write what the models of a run found, by half set, to the run folder."""
    record = [
        {
            "half": None if half == ALL_IMAGES else half,
            "latent_dimensions": dimension.count,
            "gain_nats": [gain for gain, _ in dimension.gains],
            "standard_error_nats": [error for _, error in dimension.gains],
        }
        for half, dimension in found.items()
    ]
    with atomic_write(folder / LATENT_DIMENSION_FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
