"""What `kinesphere.load` returns: places that are none are refused, and errors are measured anew
for another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.fake_run import helix_bundle
from kinesphere.api import LoadedRun
from kinesphere.errors import InputError
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> LoadedRun:
    """A run of two latent dimensions that has nothing but its latents."""
    loaded = object.__new__(LoadedRun)
    loaded.path = tmp_path
    loaded.latents = LatentTable(
        np.arange(3), np.zeros((3, 2)), np.zeros((3, 2, 2)), np.zeros(3, int)
    )
    return loaded


@pytest.mark.parametrize("place", [[0.0], [0.0, np.nan], [[0.0, 0.0]]])
def test_a_place_of_another_space_is_refused(run: LoadedRun, place: Any) -> None:
    with pytest.raises(InputError, match="no place of this latent space"):
        run.volume(place)


def test_a_fraction_that_is_none_is_refused(run: LoadedRun) -> None:
    with pytest.raises(InputError, match="--fraction"):
        run.volume([0.0, 0.0], fraction=0.0)


def test_latents_without_errors_give_no_displacement_errors(run: LoadedRun) -> None:
    with pytest.raises(InputError):
        run.displacement_errors([0])


def test_another_model_gets_errors_of_its_own(
    run: LoadedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "with_model", lambda self, _: self)
    vars(run)["_meter"] = object()
    assert "_meter" not in vars(run.with_model(helix_bundle()))
