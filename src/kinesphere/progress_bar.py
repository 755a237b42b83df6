"""How far a long computation is: bars on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kinesphere.runtime import Interrupts, console


@runtime_checkable
class Advance(Protocol):
    """Moves a bar on."""

    def __call__(self, n_done: int, n_total: int | None = None) -> None:
        """Count what was done since the last call; and say, where that was not known before, how
        much there is.
        """


@runtime_checkable
class StepProgress(Protocol):
    """Shows how far each step of a computation is."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Say how many images of a step are done, and how many there are."""


@contextmanager
def progress_bar(
    name: str, total: int | None, flag: Interrupts | None = None, done: int = 0
) -> Iterator[Advance]:
    """Show a bar with elapsed and remaining time.

    Parameters
    ----------
    name
        What is done.
    total
        Of how many; none where only the first step tells.
    flag
        Asked after each step: where the bar moves on, the work stops on an interrupt.
    done
        How many were done before.

    Yields
    ------
    Advance
        Moves the bar on.
    """
    with _bars() as bars:
        task = bars.add_task(name, total=total, completed=done)

        def advance(n_done: int, n_total: int | None = None) -> None:
            bars.update(task, advance=n_done, total=n_total)
            if flag is not None:
                flag.raise_if_requested()

        yield advance


@contextmanager
def step_progress(name: str) -> Iterator[StepProgress]:
    """Show one bar a step.

    Parameters
    ----------
    name
        Of what is worked on, after the name of the step.

    Yields
    ------
    StepProgress
        To be called with the step, the images done and their number.
    """
    with _bars() as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(f"{step} {name}", total=total)
            bars.update(tasks[step], completed=done)

        yield show


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
