"""Small particle sets that the forward model itself makes, and a run that was a short one."""

from helpers.brief_run import brief_run, brief_set  # noqa: F401 - fixtures
from helpers.toy import checkpoints, make_toy, toy  # noqa: F401 - fixtures
