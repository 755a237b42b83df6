"""What a user reads when something is wrong: one line, with where, what and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinesphere.errors import InputError, KinesphereError, NumericalError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            InputError("a.star", "has no poses", "Refine first"),
            "a.star: has no poses. Refine first.",
        ),
        (InputError(Path("x") / "y.mrc", "is empty."), "x/y.mrc: is empty."),
        (InputError("--box", "is odd.", "Give an even one."), "--box: is odd. Give an even one."),
    ],
)
def test_an_input_error_is_one_line_of_sentences(error: InputError, line: str) -> None:
    assert str(error) == line
    assert error.args == (line,)


def test_the_parts_of_an_input_error_can_be_asked_for() -> None:
    error = InputError(Path("a.star"), "has no poses.", "Refine first.")
    assert (error.source, error.problem, error.remedy) == ("a.star", "has no poses", "Refine first")


def test_exit_codes_tell_input_from_the_rest() -> None:
    assert InputError("a", "b").exit_code == 2
    assert NumericalError("diverged").exit_code == KinesphereError.exit_code == 1
    assert issubclass(InputError, KinesphereError)
