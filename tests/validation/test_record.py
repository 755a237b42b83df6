"""A validation record survives its file, keeps what other controls found, and is told from other
files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinesphere.errors import InputError
from kinesphere.validation.record import ControlResult, ValidationRecord, merged

HELD_OUT = ControlResult(
    "held-out", "Is it?", "gain", "nats per image", 1.5, (-0.25, -0.125), "It is ± 0.1 Å.", True
)
POSES = replace(HELD_OUT, name="shuffled-poses", null=(), passed=False)


def test_round_trip_through_json(tmp_path: Path) -> None:
    record = ValidationRecord("undecided", "Why.", (HELD_OUT, POSES), (("what", "kinesphere …"),))
    record.save(tmp_path / "validation" / "validation.json")
    assert ValidationRecord.load(tmp_path / "validation" / "validation.json") == record


def test_fresh_results_replace_those_of_their_name_only() -> None:
    fresh = replace(HELD_OUT, value=2.0)
    assert merged((HELD_OUT, POSES), (fresh,)) == (fresh, POSES)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"verdict": "undecided"}', '{"controls": [{"name": "x"}]}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "validation.json"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no validation"):
        ValidationRecord.load(path)
