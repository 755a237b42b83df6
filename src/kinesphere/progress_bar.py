"""The bar that shows how far a run is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kinesphere.runtime import Interrupts, console


@contextmanager
def progress_bar(
    name: str, total: int, flag: Interrupts | None = None, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and remaining time; yields the function that moves it on.

    With a flag, that function is also where the work stops on an interrupt.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
    )
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=total, completed=done)

        def advance(step: int) -> None:
            bar.advance(task, step)
            if flag is not None:
                flag.raise_if_requested()

        yield advance
