"""Errors that tell the user what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class KinesphereError(Exception):
    """Base of every error kinesphere raises on purpose; `exit_code` is what the command line
    returns.
    """

    exit_code = 1


class InputError(KinesphereError):
    """Something the user gave cannot be used.

    Parameters
    ----------
    source
        File, folder or option the problem is in.
    problem
        What is wrong, with the row or field where there is one.
    remedy
        What the user can do about it.
    """

    exit_code = 2

    def __init__(self, source: str | Path, problem: str, remedy: str = "") -> None:
        self.source = str(source)
        self.problem = problem.rstrip(".")
        self.remedy = remedy.rstrip(".")
        super().__init__(str(self))

    def __str__(self) -> str:
        """One line: source, problem, remedy."""
        line = f"{self.source}: {self.problem}."
        return f"{line} {self.remedy}." if self.remedy else line


class NumericalError(KinesphereError):
    """A computation left the range of finite numbers and could not be brought back."""
