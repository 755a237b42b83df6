"""Options of the inference: the data term, and how the conformation of each image is inferred."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kinesphere.config import Advanced

InferenceName = Literal["gaussian", "marginal", "vae"]
ObjectiveName = Literal["gaussian", "profiled", "correlation"]
MOST_DIMENSIONS = 6
"""Latent dimensions that are tried where the images decide how many there are."""


@dataclass(frozen=True)
class LatentsConfig:
    """How the conformation of each image is inferred."""

    inference: InferenceName = "marginal"
    """`gaussian`: a Gaussian posterior of each image, in any number of dimensions. `marginal`:
    exact posterior over nodes of the latent space, for one or two. `vae`: the papers' amortised
    encoder."""
    latent_dim: int | Literal["auto"] = "auto"
    """Number of latent dimensions; auto: as many as held-out coefficients ask for, up to 6, with
    `gaussian`, and else 2."""
    n_nodes: Advanced[int | None] = None
    """Nodes of the latent space (`marginal`); none: 16, 32, 96 or 192 for 1, 2, 3 or more
    dimensions."""
    n_draws: Advanced[int] = 4
    """Nodes drawn from each image's posterior for a gradient step (`marginal`)."""
    look_every: Advanced[int] = 4
    """Passes between two comparisons of an image with all nodes (`marginal`), once a model has
    taken shape; in the passes between, nodes are drawn from what was found then, and weighed by
    what they explain now."""
    encoder_shells: Advanced[int] = 15
    """Resolution shells the encoder sees (`vae`)."""

    @property
    def n_dimensions(self) -> int:
        """Number of latent dimensions that training starts with."""
        if self.latent_dim != "auto":
            return self.latent_dim
        return MOST_DIMENSIONS if self.inference == "gaussian" else 2

    @property
    def chooses_dimension(self) -> bool:
        """Whether the images decide how many dimensions are kept."""
        return self.latent_dim == "auto" and self.inference == "gaussian"

    def resolved(self) -> LatentsConfig:
        """Return the same options with the number of nodes filled in."""
        latent_dim = self.latent_dim if self.inference == "gaussian" else self.n_dimensions
        n_nodes = self.n_nodes or default_n_nodes(self.n_dimensions)
        return replace(self, latent_dim=latent_dim, n_nodes=n_nodes)


def default_n_nodes(latent_dim: int) -> int:
    """Nodes that cover N(0, I) about as densely whatever the dimension, within reason."""
    return {1: 16, 2: 32, 3: 96}.get(latent_dim, 192)
