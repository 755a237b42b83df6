"""Volumes of a known motion: written once, described, and changing as the structures do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import moving_run as helper
from kinesphere.io.mrc import read_map
from kinesphere.volumes.job import make_volumes, read_summary
from kinesphere.volumes.options import VolumeSettings

SETTINGS = VolumeSettings(method="kernel", steps=2, fraction=0.3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, dict[str, Any]]:
    """A run, the folder of its volumes, and what was reported."""
    folder = tmp_path_factory.mktemp("data")
    run = helper.KnownRun(helper.simulate(folder, 400, 1.0), folder)
    return run, folder / "volumes", make_volumes(run, SETTINGS, folder / "volumes")


def test_density_changes_as_the_structures_do(made: tuple[Any, Path, dict[str, Any]]) -> None:
    _, folder, summary = made
    assert [row["name"] for row in summary["volumes"]] == ["kernel_01", "kernel_02"]
    assert summary["residues"]["kernel"]["correlation_moving_median"] > 0.5
    first, second = (read_map(folder / f"kernel_0{number}.mrc").data for number in (1, 2))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.99


def test_the_summary_is_what_was_returned(made: tuple[Any, Path, dict[str, Any]]) -> None:
    _, folder, summary = made
    assert read_summary(folder) == json.loads(json.dumps(summary))


def test_the_same_volumes_are_not_made_twice(
    made: tuple[Any, Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder, summary = made
    before = (folder / "kernel_01.mrc").stat().st_mtime_ns
    again = make_volumes(run, SETTINGS, folder)
    assert again["fingerprint"] == summary["fingerprint"]
    assert "holds these volumes already" in " ".join(capsys.readouterr().err.split())
    assert (folder / "kernel_01.mrc").stat().st_mtime_ns == before


def test_an_unfinished_folder_has_no_summary(tmp_path: Path) -> None:
    assert read_summary(tmp_path) is None
    (tmp_path / "volumes.json").write_text("{}")
    assert read_summary(tmp_path) is None
