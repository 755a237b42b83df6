"""Configurations survive the way to YAML and back, and every wrong file is refused by the name of
its field."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kinesphere.config import load_document, load_yaml, save_yaml, to_plain
from kinesphere.errors import InputError


@dataclass(frozen=True)
class Schedule:
    rate: float = 1e-3
    epochs: int = 10
    crop_px: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError("epochs may not be negative")


@dataclass(frozen=True)
class Settings:
    particles: Path
    kind: Literal["segments", "field"] = "segments"
    mask: Path | None = None
    n_segments: int | Literal["auto"] = "auto"
    band_angstrom: tuple[float, float] = (30.0, 5.0)
    invert: bool = False
    schedule: Schedule = field(default_factory=Schedule)
    stages: tuple[Schedule, ...] = ()
    chains: dict[str, tuple[int, int]] = field(default_factory=dict)
    title: str = ""


FULL = Settings(
    particles=Path("a b/särtikel.star"),
    kind="field",
    mask=Path("mask.mrc"),
    n_segments=6,
    band_angstrom=(20.0, 4.5),
    invert=True,
    schedule=Schedule(rate=3e-5, epochs=2, crop_px=(32, 64)),
    stages=(Schedule(), Schedule(epochs=1)),
    chains={"A": (1, 20)},
    title="on: yes # 1e3",
)


@pytest.mark.parametrize("settings", [Settings(Path("p.star")), FULL], ids=["defaults", "full"])
def test_round_trip(settings: Settings, tmp_path: Path) -> None:
    save_yaml(settings, tmp_path / "run.yaml")
    assert load_yaml(Settings, tmp_path / "run.yaml") == settings


@given(
    title=st.text(),
    rate=st.floats(allow_nan=False),
    epochs=st.integers(min_value=0),
    crop_px=st.lists(st.integers()).map(tuple),
)
def test_round_trip_of_any_value(
    tmp_path_factory: pytest.TempPathFactory,
    title: str,
    rate: float,
    epochs: int,
    crop_px: tuple[int, ...],
) -> None:
    settings = Settings(Path("p"), title=title, schedule=Schedule(rate, epochs, crop_px))
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    save_yaml(settings, path)
    assert load_yaml(Settings, path) == settings


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029", "\n", "\t"])
def test_text_keeps_its_line_breaks(tmp_path: Path, character: str) -> None:
    settings = Settings(Path(f"a{character}b"), title=character)
    save_yaml(settings, tmp_path / "run.yaml")
    assert load_yaml(Settings, tmp_path / "run.yaml") == settings


def test_extras_stand_beside_the_configuration(tmp_path: Path) -> None:
    extras = {
        "seed": np.int64(3),
        "loss": np.float32(0.5),
        "versions": {"torch": "2"},
        "inputs": [Path("a")],
    }
    save_yaml(Settings(Path("p")), tmp_path / "run.yaml", **extras)
    document = load_document(tmp_path / "run.yaml")
    assert {name: document[name] for name in extras} == {
        "seed": 3,
        "loss": 0.5,
        "versions": {"torch": "2"},
        "inputs": ["a"],
    }
    assert load_yaml(Settings, tmp_path / "run.yaml") == Settings(Path("p"))


def write(tmp_path: Path, **fields: Any) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"config": {"particles": "p.star"} | fields}), encoding="utf-8")
    return path


def test_number_without_decimal_point_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("config:\n  particles: p\n  schedule: {rate: 1e-4}\n", encoding="utf-8")
    assert load_yaml(Settings, path).schedule.rate == pytest.approx(1e-4)


def test_left_out_fields_take_their_defaults(tmp_path: Path) -> None:
    assert load_yaml(Settings, write(tmp_path, n_segments=4)) == Settings(
        Path("p.star"), n_segments=4
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"particle": 1}, "particle: is not a known field. Perhaps particles was meant."),
        (
            {"schedule": {"epoch": 1}},
            "schedule.epoch: is not a known field. Perhaps epochs was meant.",
        ),
        ({"schedule": {"epochs": "ten"}}, "schedule.epochs: 'ten' is not a whole number."),
        ({"schedule": {"epochs": True}}, "schedule.epochs: True is not a whole number."),
        ({"schedule": {"epochs": 2.5}}, "schedule.epochs: 2.5 is not a whole number."),
        ({"schedule": {"rate": "fast"}}, "schedule.rate: 'fast' is not a number."),
        ({"schedule": {"epochs": -1}}, "schedule: epochs may not be negative."),
        ({"schedule": 3}, "schedule: 3 is not a group of fields."),
        (
            {"stages": [{"epochs": 1}, {"epochs": []}]},
            "stages[1].epochs: [] is not a whole number.",
        ),
        (
            {"kind": "rigid"},
            "kind: 'rigid' is not one of the choices. Use one of: segments, field.",
        ),
        ({"band_angstrom": [1.0]}, "band_angstrom: has 1 values, not 2."),
        ({"band_angstrom": 30}, "band_angstrom: 30 is not a list."),
        ({"n_segments": "many"}, "n_segments: 'many' is none of: a whole number, 'auto'."),
        ({"invert": 1}, "invert: 1 is not true or false."),
        ({"mask": 7}, "mask: 7 is not a path."),
        ({"title": None}, "title: None is not text."),
        ({"particles": None}, "particles: None is not a path."),
        ({"chains": {"A": [1, "end"]}}, "chains.A[1]: 'end' is not a whole number."),
        ({"chains": ["A"]}, "chains: ['A'] is not a set of named values."),
    ],
)
def test_wrong_field_is_named(fields: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = write(tmp_path, **fields)
    with pytest.raises(InputError, match=re.escape(f"{path}: {expected}")):
        load_yaml(Settings, path)


def test_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("config: {title: x}\n", encoding="utf-8")
    with pytest.raises(InputError, match="particles: is missing"):
        load_yaml(Settings, path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"config: {a: [}", "is not valid YAML"),
        (b"- 1\n", "holds no named entries"),
        (b"seed: 1\n", "has no entry 'config'"),
        (b"config: \xff\xfe\n", "cannot be read"),
        (b"config: !!python/object/apply:os.getcwd []\n", "is not valid YAML"),
    ],
)
def test_wrong_file_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        load_yaml(Settings, path)
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_yaml(Settings, tmp_path / "none.yaml")


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path, title="old")
    with pytest.raises(TypeError, match="object has no plain form"):
        save_yaml(Settings(Path("p")), path, unwritable=object())
    assert load_yaml(Settings, path).title == "old"


def test_a_dataclass_is_not_its_instance() -> None:
    with pytest.raises(TypeError, match="type has no plain form"):
        to_plain(Settings)
