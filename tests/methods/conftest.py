"""Small particle sets that the forward model itself makes."""

from helpers.toy import make_toy, toy  # noqa: F401 - fixtures
