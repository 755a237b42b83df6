"""A blob of voxels and a few poses; a run with a known motion."""

from helpers.fake_run import run  # noqa: F401 - fixture
from helpers.support import rotation, support  # noqa: F401 - fixtures
