"""What is scored against a truth: what the user may choose."""

from __future__ import annotations

from dataclasses import dataclass

from kinesphere.motion.beads import BeadPlacement


@dataclass(frozen=True)
class ScoreSettings:
    """What is scored beyond what always is."""

    distance: tuple[str, ...] = ()
    """Distances between centroids of residues to score, each two groups with a / between them:
    A:122-159/A:1-29,A:60-121,A:160-214."""
    hinge: str | None = None
    """A residue known to be a hinge, as in B:226: how far the nearest segment boundary is."""
    ideal: bool = True
    """Score the ideal observer too, who knows the true states: the limit that the noise sets."""
    ideal_images: int | None = None
    """Images the ideal observer looks at, evenly spaced; none: 4,000, or fewer beyond 100 states or
    32 resolution shells."""
    ideal_beads: BeadPlacement | None = None
    """Gaussians of the ideal observer's molecule; none: atoms, up to 5,000 of them and where the
    pixels resolve better than 6 Å, else centroids of residues."""
