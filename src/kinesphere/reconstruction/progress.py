"""What a person sees while images are gone through: one bar a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBar

from kinesphere.runtime import console


@runtime_checkable
class Progress(Protocol):
    """Shows how far a step is."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Report images done of a step."""


@contextmanager
def step_progress(name: str) -> Iterator[Progress]:
    """Show one bar a step on a terminal, and nothing elsewhere.

    Parameters
    ----------
    name
        Of what is worked on, after the name of the step.

    Yields
    ------
    Progress
        To be called with the step, the images done and their number.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    left = (TextColumn("left"), TimeRemainingColumn())
    bar = ProgressBar(
        *columns, *left, console=console, transient=True, disable=not console.is_terminal
    )
    with bar:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(f"{step} {name}", total=total)
            bar.update(tasks[step], completed=done)

        yield show
