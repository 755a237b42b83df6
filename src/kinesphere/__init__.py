"""kinesphere recovers how molecules move from single-particle cryo-EM images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kinesphere._version import __version__

if TYPE_CHECKING:
    from kinesphere.api import LoadedRun

__all__ = ["__version__", "load"]


def load(path: str | Path) -> LoadedRun:
    """Load a finished run.

    Parameters
    ----------
    path
        The run folder.

    Returns
    -------
    LoadedRun
        Offers `.latents`, `.structures(images)`, `.decode(z)`, `.displacements(points, images)`,
        `.displacement_errors(images)`, `.volume(z)` and more.

    Raises
    ------
    InputError
        If the folder holds no finished run.
    """
    # PyTorch takes seconds to import; `kinesphere --help` does not need it
    from kinesphere.api import LoadedRun

    return LoadedRun(path)
