"""How a run is validated: what the user may choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinesphere.errors import InputError

ControlName = Literal["held-out", "phase-randomised", "shuffled-poses", "half-sets", "wrong-model"]
# Those that take a minute.
CONTROLS: tuple[ControlName, ...] = (
    "held-out",
    "phase-randomised",
    "shuffled-poses",
    "half-sets",
)
FEWEST_IMAGES = 20


@dataclass(frozen=True)
class NullSettings:
    """How nulls and the held-out gain are measured."""

    n_images: int = 1000
    """Images that are scored, evenly drawn."""
    n_permutations: int = 200
    """Permutations of the latents among the images."""
    n_seeds: int = 3
    """Times that phases and poses are randomised."""
    phase_resolution: float | None = None
    """Randomise phases beyond this resolution in Å; none: all, which leaves noise of the images'
    power."""
    seed: int = 0
    """Of the images, the split and the nulls."""

    def require_sensible(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises
        ------
        InputError
            Naming the option.
        """
        lowest = {"n_images": FEWEST_IMAGES, "n_permutations": 1, "n_seeds": 1, "seed": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value < least:
                raise InputError(
                    f"--{name.replace('_', '-')}", f"{value} is too few", f"Give {least} or more"
                )
        if self.phase_resolution is not None and not self.phase_resolution > 0:
            problem = f"{self.phase_resolution} is no resolution"
            raise InputError("--phase-resolution", problem, "Give a number above zero, in Å")

    def n_passes(self, names: Sequence[str]) -> int:
        """Count how often every image is inferred, by side of the split."""
        randomised = sum(name in names for name in ("phase-randomised", "shuffled-poses"))
        return 2 * (1 + randomised * self.n_seeds)


@dataclass(frozen=True)
class WrongModelSettings:
    """The control with a wrong model."""

    model: Path | None = None
    """Atomic model in the frame of the map; none: the one the run was made with."""
    domain: str | None = None
    """Residues to replace, as in A:30-59; none: the sixth of a chain that moves most."""
