"""Which table of a STAR file holds single particles; files that hold something else are refused by
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kinesphere.errors import InputError
from kinesphere.io.star import StarTable

PREFERRED_BLOCKS = ("particles", "images")
_EXPECTED = (
    "Give a particle STAR file, such as run_data.star of Refine3D or particles.star of Extract"
)

# What other STAR files are, by the beginning of a block's name.
_OTHER_FILES = {
    "stopgap": "a STOPGAP motive list (sub-tomograms)",
    "pipeline": "a RELION pipeline",
    "model": "a RELION model",
    "optimiser": "a RELION optimiser",
    "sampling": "a RELION sampling",
    "fsc": "a RELION postprocess result",
    "guinier": "a RELION postprocess result",
    "micrographs": "a list of micrographs",
    "movies": "a list of movies",
    "coordinate_files": "a list of coordinate files",
    "job": "the options of a RELION job",
    "schedule": "a RELION schedule",
    "global": "a list of tomograms",
    "tomograms": "a list of tomograms",
}


def find_particle_table(path: Path, tables: Sequence[StarTable]) -> StarTable:
    """Find the table with one row a particle image.

    Parameters
    ----------
    path
        The file, for messages.
    tables
        All its tables.

    Returns
    -------
    StarTable
        The one with `rlnImageName`; of several, the one in a block called `particles` or `images`.

    Raises
    ------
    InputError
        If there is none (the message says what the file is instead), several, one without rows, or
        one of three-dimensional particles.
    """
    found = [table for table in tables if "rlnImageName" in table]
    if len(found) > 1:
        found = [table for table in found if table.block in PREFERRED_BLOCKS] or found
    if len(found) > 1:
        blocks = " and ".join(f"data_{table.block}" for table in found)
        raise InputError(
            path, f"holds {len(found)} tables of images, in {blocks}", "Keep one of them"
        )
    if not found:
        raise InputError(path, _what_else(tables), _EXPECTED)
    _refuse_three_dimensional(path, found[0], tables)
    if found[0].n_rows == 0:
        raise InputError(
            path, "holds no particles: its table is empty", "Check the selection that made it"
        )
    return found[0]


def find_optics_table(particles: StarTable, tables: Sequence[StarTable]) -> StarTable | None:
    """Find the optics groups (RELION 3.1 and later); None where the file has none (RELION 3.0)."""
    named = [table for table in tables if table.block == "optics"]
    others = [table for table in tables if "rlnVoltage" in table and "rlnOpticsGroup" in table]
    return next(
        (table for table in (*named, *others) if table.block != particles.block and table.n_rows),
        None,
    )


def _what_else(tables: Sequence[StarTable]) -> str:
    """Say what a file without particle images is."""
    for table in tables:
        for beginning, description in _OTHER_FILES.items():
            if table.block.startswith(beginning):
                return f"is {description}, it holds no particle images"
    columns = {name for table in tables for name in table.columns}
    if not any(name.startswith("rln") for name in columns):
        return "has no table of RELION's: it holds no particle images"
    if not any(table.n_rows for table in tables):
        return "holds no particles: its table is empty"
    if "rlnCoordinateX" in columns:
        return "holds picked coordinates without images (no rlnImageName)"
    return "has no column rlnImageName"


def _refuse_three_dimensional(
    path: Path, particles: StarTable, tables: Sequence[StarTable]
) -> None:
    reason = _three_dimensional(particles, tables)
    if reason:
        raise InputError(
            path, f"holds sub-tomograms ({reason})", "Give two-dimensional single-particle images"
        )


def _three_dimensional(particles: StarTable, tables: Sequence[StarTable]) -> str | None:
    """Return the evidence that the particles are volumes or tilt stacks; None for single-particle
    images.
    """
    for table in tables:
        if "rlnTomoSubTomosAre2DStacks" in table:
            return "rlnTomoSubTomosAre2DStacks"
        if "rlnImageDimensionality" in table and "3" in table.text("rlnImageDimensionality"):
            return "rlnImageDimensionality is 3"
    for name in particles.columns:
        if name.startswith("rlnTomo") or name in {"rlnOriginZAngst", "rlnOriginZ"}:
            return f"column {name}"
    # RELION 1 and 2 also copied the micrograph's rlnCtfImage to its particles, which are images
    # N@stack.
    if (
        "rlnCtfImage" in particles
        and particles.n_rows
        and "@" not in particles.text("rlnImageName")[0]
    ):
        return "column rlnCtfImage, and image names without @"
    return None
