"""`kinesphere invert`: there and back again, and the map in the state of an image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers import field_run
from kinesphere import load
from kinesphere.cli.main import main
from kinesphere.io.mrc import read_map


def test_invert_comes_back_and_writes_the_state_of_an_image(made: Path) -> None:
    run = made / "run"
    assert main(["invert", str(run), "--n-images", "4", "--images", "5"]) == 0
    found = json.loads((run / "inverse" / "round_trip.json").read_text())
    assert found["median_angstrom"] < 0.1
    assert found["percentile_99_angstrom"] < 0.5
    consensus = read_map(made / "set" / "consensus.mrc")
    state = read_map(run / "inverse" / "state_of_image_5.mrc")
    assert np.array_equal(state.origin_angstrom, consensus.origin_angstrom)
    inside = state.data != 0
    correlation = np.corrcoef(state.data[inside], consensus.data[inside])[0, 1]
    assert correlation > 0.8  # little has been learnt: little moves


def test_no_images_to_measure_is_refused(made: Path, refused: Callable[..., str]) -> None:
    assert "--n-images: 0 is too few" in refused("invert", made / "run", "--n-images", "0")


def test_segments_run_has_no_field_to_invert(made: Path, refused: Callable[..., str]) -> None:
    run = made / "segments"
    brief = ["--epochs", "1", *field_run.SHORT]
    inputs = [*field_run.inputs(made / "set"), "--model", str(made / "set" / "model.cif")]
    assert main(["segments", *inputs, "--out", str(run), *brief]) == 0
    assert "Give a run of kinesphere field" in refused("invert", run)
    segments = load(run)  # whose model, another one carried along, is in the state of its own
    part = segments.model.select(segments.model.residue_index < 50)
    expected = part.positions_angstrom + segments.displacements(part.positions_angstrom, [3, 7])
    assert segments.with_model(part).structures([3, 7]) == pytest.approx(expected, abs=1e-3)
