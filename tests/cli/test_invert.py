"""`invert` on a run whose inverse is known: what it says, and what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from helpers.twist import Twist
from kinesphere.cli.main import main
from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.motion.base import Motion
from kinesphere.motion.pseudo_atoms import Solid
from kinesphere.runs.run import Run

BOX, PIXEL_ANGSTROM, N_IMAGES = 16, 3.0, 20


class TwistedRun(Run):
    """A run of a twist; image k is at z = k / 10."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.latents: Any = SimpleNamespace(index=np.arange(N_IMAGES))
        self.config: dict[str, Any] = {}
        self.provenance: dict[str, Any] = {}
        vars(self).update(model=None, metrics={})  # in the place of cached properties
        self.twist = Twist(20.0 * torch.randn(50, 3), 1)

    def motion_of(self, image: int) -> tuple[Motion, torch.Tensor]:
        return self.twist, torch.tensor([image / 10.0])

    @property
    def memberships(self) -> np.ndarray:
        return np.ones((50, 1))

    def consensus(self) -> tuple[DensityMap, Solid, np.ndarray]:
        density = np.zeros((BOX, BOX, BOX), np.float32)
        density[6:11, 5:11, 6:10] = 1.0
        inside = density > 0
        map_ = DensityMap(density, PIXEL_ANGSTROM, np.array([1.0, 2.0, 3.0]))
        return map_, Solid(density.astype(float), inside, PIXEL_ANGSTROM, 0.5), inside


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `kinesphere.load` turns into that run."""
    __import__("kinesphere.cli.invert")
    monkeypatch.setattr(sys.modules["kinesphere.cli.invert"], "load", TwistedRun)
    return tmp_path


def test_round_trips_are_measured_and_written(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invert", str(run_folder), "--n-images", "7", "--threads", "1"]) == 0
    summary = json.loads((run_folder / "inverse" / "round_trip.json").read_text())
    assert summary["n_images"] == 7
    assert summary["n_points"] == 5 * 6 * 4
    assert 0 <= summary["median_angstrom"] <= summary["percentile_99_angstrom"] < 1e-3
    assert "120 points in 7 images" in " ".join(capsys.readouterr().err.split())
    assert not list((run_folder / "inverse").glob("*.mrc"))


def test_the_map_is_written_in_the_states_that_were_asked_for(run_folder: Path) -> None:
    command = ["invert", str(run_folder), "--n-images", "1", "--images", "0,15", "--threads", "1"]
    assert main(command) == 0
    consensus, _, inside = TwistedRun(run_folder).consensus()
    still, twisted = (
        read_map(run_folder / "inverse" / f"state_of_image_{image}.mrc") for image in (0, 15)
    )
    np.testing.assert_allclose(still.origin_angstrom, consensus.origin_angstrom)
    np.testing.assert_allclose(still.data[inside], 1.0, atol=1e-3)  # at z = 0 nothing is turned
    assert float(np.abs(twisted.data - still.data).max()) > 0.3
    assert twisted.data.sum() == pytest.approx(still.data.sum(), rel=0.1)  # a twist keeps volume


def test_what_cannot_be_meant_is_refused(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invert", str(run_folder), "--n-images", "0"]) == 2
    assert "--n-images: 0 is too few" in capsys.readouterr().err
    assert main(["invert", str(run_folder), "--images", "20"]) == 2
    assert "particle 20 is not in" in capsys.readouterr().err
    assert not (run_folder / "inverse").exists()
