"""What a run says of the number of its latent dimensions."""

from __future__ import annotations

import json
from pathlib import Path

from kinesphere.runs.latent_dimension import (
    LATENT_DIMENSION_FILE,
    LatentDimension,
    save_latent_dimensions,
)


def test_dimensions_that_gain_are_counted_and_the_next_one_is_named() -> None:
    found = LatentDimension([(7.54, 0.6), (0.61, 0.08), (0.01, 0.01)])
    assert found.count == 2
    assert found.summary() == (
        "Latent dimensions: 2. They add 7.54 ± 0.60, 0.61 ± 0.08 nats an image to coefficients "
        "held out from images that trained nothing; one more adds 0.01 ± 0.01, and is left out"
    )
    assert "one more" not in LatentDimension([(7.54, 0.6), (0.61, 0.08)]).summary()


def test_a_set_without_motion_has_none() -> None:
    found = LatentDimension([(-0.004, 0.02)])
    assert found.count == 0
    assert found.summary().startswith("Latent dimensions: none. A first one adds -0.00 ± 0.02 nats")


def test_the_record_has_an_entry_a_model(tmp_path: Path) -> None:
    save_latent_dimensions(
        tmp_path, {1: LatentDimension([(2.0, 0.1), (0.0, 0.1)]), 2: LatentDimension([(1.0, 0.1)])}
    )
    record = json.loads((tmp_path / LATENT_DIMENSION_FILE).read_text(encoding="utf-8"))
    assert [entry["half"] for entry in record] == [1, 2]
    assert [entry["latent_dimensions"] for entry in record] == [1, 1]
    assert record[0]["gain_nats"] == [2.0, 0.0]
