"""The progress bar moves on where there is a terminal, and stops the work on an interrupt."""

from __future__ import annotations

import io
import signal

import pytest
from rich.console import Console

from kinesphere.progress_bar import progress_bar, step_progress
from kinesphere.runtime import InterruptedRunError, Interrupts


def shown(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> str:
    """Let a bar go from 3 to 9 of 12, and return what it has written."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=80)
    monkeypatch.setattr("kinesphere.progress_bar.console", console)
    with progress_bar("reading", 12, done=3) as advance:
        advance(2)
        advance(4)
    return text.getvalue()


def test_a_terminal_sees_how_far_the_work_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, is_terminal=True)
    assert "reading" in text
    assert "9/12" in text


def test_a_log_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, is_terminal=False) == ""


def test_a_bar_learns_how_much_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    monkeypatch.setattr("kinesphere.progress_bar.console", console)
    with progress_bar("observing", None) as advance:
        advance(2, 8)
        advance(3)
    assert "5/8" in text.getvalue()


def test_each_step_has_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    monkeypatch.setattr("kinesphere.progress_bar.console", console)
    with step_progress("half 1") as progress:
        progress("Backprojecting", 5, 5)
        progress("Least squares", 2, 20)
    assert "Backprojecting half 1" in text.getvalue()
    assert "2/20" in text.getvalue()


def test_work_goes_on_until_an_interrupt_and_ends_there() -> None:
    flag = Interrupts()
    done: list[int] = []

    def work() -> None:
        with progress_bar("training", 10, flag) as advance:
            for step in range(10):
                if step == 4:
                    flag.signal_number = signal.SIGTERM
                done.append(step)
                advance(1)

    with pytest.raises(InterruptedRunError) as caught:
        work()
    assert done == [0, 1, 2, 3, 4]
    assert caught.value.exit_code == 128 + signal.SIGTERM
