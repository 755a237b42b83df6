"""Small particle sets that the forward model itself makes."""

from helpers.field_toy import bright  # noqa: F401 - a fixture
from helpers.toy import checkpoints, make_toy, toy  # noqa: F401 - fixtures
