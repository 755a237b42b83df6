"""Where the program meets the machine: device, seed, threads, terminal, files and signals."""

from __future__ import annotations

import errno
import io
import os
import random
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.control import Control

from kinesphere.errors import InputError, KinesphereError

if (
    TYPE_CHECKING
):  # torch takes a second to import, and the command line needs this module for its help page
    import torch

LOG_WIDTH_CHARACTERS = 120


class LoggedConsole(Console):
    """A terminal whose lines also go, plain and with the time, to the log files that are open."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._log_paths: list[Path] = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, and append the same text to the open log files."""
        super().print(*objects, **options)
        is_cursor_movement = bool(objects) and all(isinstance(item, Control) for item in objects)
        if self._log_paths and not is_cursor_movement:
            lines = _plain_lines(objects, options)
            for path in self._log_paths:
                with path.open("a", encoding="utf-8") as log:
                    log.writelines(lines)

    @contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Append every printed line to a file for as long as the context lasts.

        Parameters
        ----------
        path
            The log file; its folder is made where missing, and an existing file is continued.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log_paths.append(path)
        try:
            yield
        finally:
            self._log_paths.remove(path)


def _plain_lines(objects: tuple[Any, ...], options: dict[str, Any]) -> list[str]:
    """Render what was printed as lines of plain text that start with the local time."""
    text = io.StringIO()
    Console(file=text, width=LOG_WIDTH_CHARACTERS, color_system=None).print(*objects, **options)
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return [f"{now}  {line.rstrip()}\n" for line in text.getvalue().splitlines()]


console = LoggedConsole(stderr=True)
"""What the user reads. Standard output stays free for results such as the JSON of `evaluate`."""


def choose_device(name: str = "auto") -> torch.device:
    """Turn the user's choice of device into one that is there.

    Parameters
    ----------
    name
        `auto` (the first GPU, else the processor), `cpu`, `cuda` or `cuda:N`.

    Returns
    -------
    torch.device
        With its index, where it is a GPU.

    Raises
    ------
    InputError
        Where the name is unknown, or asks for a GPU that PyTorch does not see.
    """
    import torch

    kind, _, index = name.partition(":")
    n_gpus = (
        torch.cuda.device_count() if kind in {"auto", "cuda"} and torch.cuda.is_available() else 0
    )
    if name == "cpu" or (name == "auto" and n_gpus == 0):
        return torch.device("cpu")
    if name not in {"auto", "cuda"} and not (kind == "cuda" and index.isdecimal()):
        raise InputError("--device", f"{name!r} is not a device", "Use auto, cpu, cuda or cuda:N")
    if n_gpus == 0:
        raise InputError("--device", f"{name} asks for a GPU, and PyTorch sees none", _why_no_gpu())
    position = int(index or 0)
    if position >= n_gpus:
        raise InputError(
            "--device",
            f"{name} is not there: {n_gpus} GPU(s) found",
            f"Use cuda:0 to cuda:{n_gpus - 1}",
        )
    return torch.device("cuda", position)


def _why_no_gpu() -> str:
    """Say what stands between the user and a GPU."""
    import torch

    if torch.version.cuda is None:
        return (
            "This PyTorch is built for the processor only: install a CUDA build, or use "
            "--device cpu"
        )
    return "Check the driver with nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu"


def set_threads(n_threads: int | None) -> None:
    """Limit the threads PyTorch computes with; None leaves its own choice.

    Raises
    ------
    InputError
        Where the number is below one.
    """
    if n_threads is None:
        return
    if n_threads < 1:
        raise InputError("--threads", f"{n_threads} is not a number of threads", "Use 1 or more")
    import torch

    torch.set_num_threads(n_threads)


def seed_everything(seed: int) -> None:
    """Start every random number generator (Python, NumPy, PyTorch on all devices) from one seed.

    Parameters
    ----------
    seed
        Not negative and below 2³², which is what NumPy takes.

    Raises
    ------
    InputError
        Where the seed is outside that range.
    """
    if not 0 <= seed < 2**32:
        raise InputError(
            "--seed", f"{seed} is not a seed", "Use a whole number from 0 to 4294967295"
        )
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - scikit-learn and umap draw from the global generator
    torch.manual_seed(seed)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Parameters
    ----------
    path
        Where the file is to be; its folder is made where missing.

    Yields
    ------
    Path
        A name in the same folder that ends like `path` (writers look at the suffix). What is there
        when the block ends takes the place of `path`; after an exception it is removed, and `path`
        is as it was.

    Raises
    ------
    InputError
        Where the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        if _is_about(error, path, temporary):
            remedy = "Check the folder's permissions and the free space"
            raise InputError(
                path, f"cannot be written ({error.strerror or error})", remedy
            ) from error
        raise
    finally:
        with suppress(
            OSError
        ):  # its folder may not even be one; the error that says so is on its way
            temporary.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a folder for results, and take it away again where an error leaves it empty.

    What is refused before anything is written should leave no trace.

    Parameters
    ----------
    folder
        The folder; one that is there already stays in any case.

    Raises
    ------
    InputError
        If the folder cannot be made or written to.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        problem = f"cannot be written to ({error.strerror or error})"
        raise InputError(folder, problem, "Give a folder you may write to as --out") from error
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):  # it holds something: work had begun
                folder.rmdir()
        raise


def _is_about(error: OSError, path: Path, temporary: Path) -> bool:
    """Tell whether an error met while writing is about the file or its folder, not about another
    file being read.
    """
    if error.filename is None:
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    named = Path(os.fsdecode(error.filename))
    return named == temporary or named in path.parents


def _flush_to_disk(path: Path) -> None:
    """Wait until the file's content is on the disk, so that a power cut after the rename loses
    nothing.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


class InterruptedRunError(KinesphereError):
    """The user or the queue asked the program to stop, and it stopped at a safe point."""

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        name = signal.Signals(signal_number).name
        super().__init__(f"Stopped by {name}. The same command continues from the last checkpoint")


class Interrupts:
    """A flag that SIGINT or SIGTERM raises; a loop polls it between steps."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number is not None

    def raise_if_requested(self) -> None:
        """Leave the loop, with the exit code that shells expect (130 or 143).

        Raises
        ------
        InterruptedRunError
            Where a signal has arrived. Save the checkpoint before calling.
        """
        if self.signal_number is not None:
            raise InterruptedRunError(self.signal_number)


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Turn the first SIGINT or SIGTERM into a flag; a second one ends the program as usual.

    Yields
    ------
    Interrupts
        Poll `requested`, save, then call `raise_if_requested`. Outside the main thread, where
        Python allows no signal handlers, the flag never rises.
    """
    flag = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(signal_number: int, _frame: FrameType | None) -> None:
        flag.signal_number = signal_number
        restore()  # whoever presses Ctrl-C twice means it

    for number in previous:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        restore()
