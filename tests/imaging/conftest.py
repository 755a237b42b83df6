"""A random chain, projected."""

from helpers.chain import projected_chain  # noqa: F401 - fixtures
