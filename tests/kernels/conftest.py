"""A random chain, projected; a blob of voxels and a few poses."""

from helpers.chain import projected_chain  # noqa: F401 - fixtures
from helpers.support import rotation, support  # noqa: F401 - fixtures
