"""Check, from outside the repository, that an installed kinesphere holds every file of the source
tree.
"""

from __future__ import annotations

import sys
from pathlib import Path

import kinesphere


def contents(folder: Path) -> set[Path]:
    """List the files below a folder, aside from what Python and numba keep there once they have
    run.
    """
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in files if "__pycache__" not in path.parts}


source = Path(sys.argv[1]).resolve()
installed = Path(kinesphere.__file__).resolve().parent
if installed.is_relative_to(source.parent):
    sys.exit(f"{installed} is the repository's own, not the wheel's")
missing = contents(source) - contents(installed)
if missing:
    sys.exit(f"not in the wheel: {', '.join(sorted(map(str, missing)))}")
n_data = sum(path.suffix != ".py" for path in contents(installed))
print(f"{installed}: {len(contents(installed))} files, {n_data} of them data, as in the repository")
