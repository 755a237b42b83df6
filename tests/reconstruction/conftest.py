"""A blob of voxels and a few poses; a molecule that opens, and reconstructions of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers import moving_run as helper
from helpers.support import rotation, support  # noqa: F401 - fixtures
from kinesphere.reconstruction.job import reconstruct
from kinesphere.reconstruction.options import ReconstructionSettings


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Six hundred images of a molecule that opens by up to 7 Å RMSD."""
    return helper.simulate(tmp_path_factory.mktemp("data"), 600, 0.5)


@pytest.fixture(scope="session")
def done(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reconstructions of it: with motion, without, and by least squares."""
    folder = tmp_path_factory.mktemp("run")
    for name, settings in (
        ("moved", ReconstructionSettings()),
        ("still", ReconstructionSettings(homogeneous=True)),
        ("solved", ReconstructionSettings(iterations=4)),
    ):
        reconstruct(helper.KnownRun(data, folder), settings, folder / name)
    return folder
