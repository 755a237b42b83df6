"""What of a finished run is analysed: what the user may choose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AnalysisSettings:
    """What to analyse, and how finely."""

    components: int = 3
    """Latent components to follow; those that move the molecule most come first."""
    frames: int = 21
    """Structures along each component, from its 5th to its 95th percentile."""
    clusters: int = 4
    """k-means clusters in the latent space."""
    tolerance_angstrom: float | None = None
    """Segments that move against each other by less (RMS) are one body; by default a third of the
    RMS motion within the molecule, at least 0.5 Å."""
    umap: bool = False
    """Also embed the latents with UMAP; needs the optional package umap-learn."""
    seed: int = 0
    """Of the sample, the clusters and the embedding."""
