"""Runs whose structures are given."""

from helpers.given_run import ensemble, given_run, make_run, truth  # noqa: F401 - fixtures
