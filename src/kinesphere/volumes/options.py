"""Where on the latent space volumes are made, and how: what the user may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kinesphere.errors import InputError

VolumeMethod = Literal["kernel", "decoder"]


@dataclass(frozen=True)
class VolumeSettings:
    """Where in the latent space volumes are made, and how."""

    clusters: int | None = None
    """Volumes at the particles that stand for this many k-means clusters."""
    traverse: int | None = None
    """Volumes at quantiles along this component of the latents, from 1 (the default: 1)."""
    steps: int = 5
    """Volumes along the component: the medians of that many equal parts of the particles."""
    at: str | None = None
    """One volume at this place of the latent space: z1,z2,… (of half set 1's space where there are
    two)."""
    method: Literal["both", "kernel", "decoder"] = "both"
    """Weight the images near a place (kernel), train a decoder on all of them (decoder), or compare
    the two."""
    fraction: float = 0.2
    """Effective number of images behind a kernel volume, as a fraction of a half set; it sets the
    bandwidth."""
    seed: int = 0
    """Seed of clusters, of the decoder, and of half sets where particles have none."""

    @property
    def methods(self) -> tuple[VolumeMethod, ...]:
        """The ways volumes are made."""
        return ("kernel", "decoder") if self.method == "both" else (self.method,)

    def require_sensible(self) -> None:
        """Refuse values that mean nothing.

        Raises
        ------
        InputError
            Naming the option.
        """
        if sum(value is not None for value in (self.clusters, self.traverse, self.at)) > 1:
            raise InputError(
                "--clusters, --traverse, --at", "exclude each other", "Give one of them"
            )
        if self.clusters is not None and self.clusters < 1:
            raise InputError(
                "--clusters", f"{self.clusters} is not a number of clusters", "Use 1 or more"
            )
        if self.steps < 1:
            raise InputError("--steps", f"{self.steps} is not a number of volumes", "Use 1 or more")
        if not 0 < self.fraction <= 1:
            raise InputError(
                "--fraction",
                f"{self.fraction:g} is not a fraction",
                "Use a number above 0, at most 1",
            )
