"""Devices, files, signals and the terminal behave as the user was promised."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import track
from rich.table import Table

from kinesphere.errors import InputError
from kinesphere.runtime import (
    InterruptedRunError,
    LoggedConsole,
    atomic_write,
    choose_device,
    interrupts,
    seed_everything,
    set_threads,
)


def show_gpus(monkeypatch: pytest.MonkeyPatch, n_gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)


@pytest.mark.parametrize(
    ("n_gpus", "name", "expected"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_device_choice(
    monkeypatch: pytest.MonkeyPatch, n_gpus: int, name: str, expected: str
) -> None:
    show_gpus(monkeypatch, n_gpus)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("n_gpus", "name", "expected"),
    [
        (0, "cuda", "asks for a GPU, and PyTorch sees none. .*--device cpu"),
        (0, "cuda:1", "asks for a GPU, and PyTorch sees none"),
        (2, "cuda:2", "2 GPU.s. found. Use cuda:0 to cuda:1"),
        (2, "gpu", "'gpu' is not a device"),
        (2, "auto:1", "'auto:1' is not a device"),
        (2, "cuda:x", "'cuda:x' is not a device"),
        (0, "cpu:3", "'cpu:3' is not a device"),
    ],
)
def test_absent_device_is_refused(
    monkeypatch: pytest.MonkeyPatch, n_gpus: int, name: str, expected: str
) -> None:
    show_gpus(monkeypatch, n_gpus)
    with pytest.raises(InputError, match=expected):
        choose_device(name)


def test_threads_are_limited() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(2)
        assert torch.get_num_threads() == 2
        set_threads(None)
        assert torch.get_num_threads() == 2
        with pytest.raises(InputError, match="--threads: 0 "):
            set_threads(0)
    finally:
        set_threads(before)


def test_seed_repeats_every_generator() -> None:
    def draw(seed: int) -> tuple[float, ...]:
        seed_everything(seed)
        import random

        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert draw(5) == draw(5)
    assert all(first != second for first, second in zip(draw(5), draw(6), strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="--seed"):
        seed_everything(seed)


def test_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "latents.npz"
    for value in (1, 2):
        with atomic_write(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".npz"
            np.savez(temporary, value=value)
            if value == 2:
                with np.load(path) as old:
                    assert old["value"] == 1
    with np.load(path) as new:
        assert new["value"] == 2
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "map.mrc"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_in_the_place_of_the_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="run.yaml: cannot be written"),
        atomic_write(tmp_path / "file" / "run.yaml"),
    ):
        pass


def test_folder_in_the_place_of_the_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").mkdir()
    with (
        pytest.raises(InputError, match="run.yaml: cannot be written"),
        atomic_write(tmp_path / "run.yaml") as temporary,
    ):
        temporary.touch()
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yaml"]


def test_full_disk_is_an_input_error() -> None:
    with (
        pytest.raises(InputError, match="No space left on device"),
        atomic_write(Path("/dev/shm/kinesphere-test")),  # noqa: S108
        Path("/dev/full").open("w", encoding="utf-8") as full,
    ):
        full.write("x")
        full.flush()


def test_another_files_trouble_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), atomic_write(tmp_path / "out.star"):
        (tmp_path / "in" / "absent").read_text()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_becomes_a_flag(number: signal.Signals, exit_code: int) -> None:
    before = signal.getsignal(number)
    with interrupts() as flag:
        assert not flag.requested
        flag.raise_if_requested()
        os.kill(os.getpid(), number)
        assert flag.requested
        with pytest.raises(InterruptedRunError, match=number.name) as caught:
            flag.raise_if_requested()
    assert caught.value.exit_code == exit_code
    assert signal.getsignal(number) is before


def test_second_interrupt_is_immediate() -> None:
    # a shell starts its background jobs with SIGINT ignored, and the tests may be one
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupts_outside_the_main_thread_never_rise() -> None:
    seen: list[bool] = []

    def work() -> None:
        with interrupts() as flag:
            seen.append(flag.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_log_holds_plain_lines_with_the_time(tmp_path: Path) -> None:
    terminal = io.StringIO()
    console = LoggedConsole(file=terminal, force_terminal=True, width=60)
    table = Table("segment", "angle")
    table.add_row("LID", "42.1°")
    with console.logging_to(tmp_path / "run" / "log.txt"):
        console.print("[bold]epoch 1[/bold]")
        console.print(table)
        for _ in track(range(3), console=console):
            pass
        console.print("[literal]", markup=False)
    console.print("not logged")
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    lines = log.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d  ", line) for line in lines)
    assert lines[0].endswith("  epoch 1")
    assert lines[-1].endswith("  [literal]")
    assert "42.1°" in log
    assert "\x1b" not in log
    assert "not logged" not in log
    assert "\x1b[1mepoch" in terminal.getvalue()


def test_runtime_does_not_import_torch() -> None:
    program = "import kinesphere.runtime, kinesphere.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
