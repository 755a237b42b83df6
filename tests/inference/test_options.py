"""Options of the inference: what is left open is filled in, what is chosen stays."""

from __future__ import annotations

import pytest

from kinesphere.inference.options import LatentsConfig, default_n_nodes


@pytest.mark.parametrize(("latent_dim", "n_nodes"), [(1, 16), (2, 32), (3, 96), (4, 192), (8, 192)])
def test_nodes_grow_with_the_dimension_within_reason(latent_dim: int, n_nodes: int) -> None:
    assert default_n_nodes(latent_dim) == n_nodes
    assert LatentsConfig(latent_dim=latent_dim).resolved().n_nodes == n_nodes


def test_what_the_user_chose_stays() -> None:
    chosen = LatentsConfig(latent_dim=3, n_nodes=7, n_draws=2)
    assert chosen.resolved() == chosen
    assert chosen.resolved().resolved() == chosen
