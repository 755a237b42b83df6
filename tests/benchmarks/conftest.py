"""The benchmarks are scripts side by side, not a package: they find one another, and the tests find
them, by path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
