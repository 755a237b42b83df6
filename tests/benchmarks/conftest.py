"""The benchmarks are scripts, not a package: they find one another, and the tests find them, by
path."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
for folder in (BENCHMARKS / "peers", BENCHMARKS / "speed", BENCHMARKS):
    sys.path.insert(0, str(folder))
