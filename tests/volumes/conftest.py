"""A blob of voxels and a few poses."""

from helpers.support import rotation, support  # noqa: F401 - fixtures
