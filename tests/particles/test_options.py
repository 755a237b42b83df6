"""Options of particles and of simulated sets are quick to import."""

from __future__ import annotations

import subprocess
import sys


def test_options_import_no_heavy_library() -> None:
    code = (
        "import sys, kinesphere.particles.options, kinesphere.simulate.recipe;"
        "print([n for n in ('torch', 'numba', 'scipy', 'gemmi') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.decode().strip() == "[]"
