"""The rule of docs/validation.md, case by case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinesphere.methods.field import Field, FieldOptions
from kinesphere.runs.run import Run
from kinesphere.validation.record import ControlResult
from kinesphere.validation.verdict import decide


def _control(name: str, *, passed: bool) -> ControlResult:
    return ControlResult(
        name, "Is it?", "gain", "nats per image", 1.0, (0.0,), f"{name} says so.", passed
    )


@pytest.fixture
def run(make_run: Callable[..., Any]) -> Run:
    """A run of two models, made from a map."""
    given = make_run()
    vars(given).update(
        motions={1: None, 2: None},
        method=Field(FieldOptions(particles=Path("p.star"), map=Path("m.mrc"))),
    )
    return given


@pytest.mark.parametrize(
    ("gain", "poses", "verdict"),
    [
        (True, True, "motion supported"),
        (True, False, "undecided"),
        (False, True, "no motion beyond noise"),
        (False, False, "no motion beyond noise"),
    ],
)
def test_the_gain_decides_and_another_control_can_speak_against_it(
    run: Run, *, gain: bool, poses: bool, verdict: str
) -> None:
    record = decide(
        run, [_control("held-out", passed=gain), _control("shuffled-poses", passed=poses)]
    )
    assert record.verdict == verdict
    assert "held-out says so." in record.reason
    assert ("shuffled-poses says so." in record.reason) == (verdict == "undecided")


def test_what_was_not_tested_comes_with_the_command_that_would(run: Run) -> None:
    record = decide(run, [_control("held-out", passed=True)])
    commands = [command for _, command in record.not_tested]
    assert f"kinesphere validate {run.path} --control phase-randomised" in commands
    assert f"kinesphere validate {run.path} --control wrong-model --model MODEL" in commands
    assert not [
        command for command in commands if "half-sets" in command
    ]  # this run has no such file
    (run.path / "validation").mkdir()
    np.savez(run.path / "validation" / "displacement_errors.npz", error_angstrom=np.zeros((1, 1)))
    commands = [
        command for _, command in decide(run, [_control("held-out", passed=True)]).not_tested
    ]
    assert f"kinesphere validate {run.path} --control half-sets" in commands


def test_a_single_model_is_said_to_have_seen_the_images(run: Run) -> None:
    vars(run).update(motions={0: None})
    record = decide(run, [_control("held-out", passed=True)])
    assert "had seen these images" in record.reason
    assert any("--halves" in command for _, command in record.not_tested)
