"""How a run is reconstructed: what the user may choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kinesphere.errors import InputError


@dataclass(frozen=True)
class ReconstructionSettings:
    """How a run is reconstructed."""

    iterations: int = 0
    """Conjugate-gradient iterations on eq. 6 (least squares); 0: filtered backprojection (eq.
    7)."""
    mask: Path | None = None
    """Soft mask (MRC, 0 to 1) for the FSC; density moves within 8 Å of it. None: made from the map
    itself."""
    homogeneous: bool = False
    """Leave the motion out: an ordinary reconstruction by the same code."""
    support_angstrom: float = 14.0
    """How far from residues or pseudo-atoms density moves with them, where no mask is given; at
    least four voxels, and twice the distance between neighbours."""
    ignore_aberrations: bool = False
    """Go on although beam tilt, anisotropic magnification or other aberrations are recorded; they
    are left out."""
    seed: int = 0
    """Seed of half sets, where particles have none, and of random phases."""

    def require_sensible(self) -> None:
        """Refuse values that mean nothing.

        Raises
        ------
        InputError
            Naming the option.
        """
        if self.iterations < 0:
            raise InputError(
                "--iterations", f"{self.iterations} is not a number of iterations", "Use 0 or more"
            )
        if not self.support_angstrom > 0:
            raise InputError(
                "--support-angstrom",
                f"{self.support_angstrom:g} is not a distance",
                "Use Å above 0",
            )
