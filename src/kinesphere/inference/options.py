"""Options of the inference: the data term, and how the conformation of each image is inferred."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kinesphere.config import Advanced

ObjectiveName = Literal["gaussian", "profiled", "correlation"]


@dataclass(frozen=True)
class LatentsConfig:
    """How the conformation of each image is inferred."""

    inference: Literal["marginal", "vae"] = "marginal"
    """`marginal`: exact posterior over nodes of the latent space, no encoder. `vae`: the papers'
    amortised encoder."""
    latent_dim: int = 2
    """Number of latent dimensions."""
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

    def resolved(self) -> LatentsConfig:
        """Return the same options with the number of nodes filled in."""
        return replace(self, n_nodes=self.n_nodes or default_n_nodes(self.latent_dim))


def default_n_nodes(latent_dim: int) -> int:
    """Nodes that cover N(0, I) about as densely whatever the dimension, within reason."""
    return {1: 16, 2: 32, 3: 96}.get(latent_dim, 192)
