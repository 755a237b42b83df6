"""Compiling everything once, and saying so."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
from numba.core.registry import CPUDispatcher

from kinesphere import kernels
from kinesphere.kernels import compiled, warming


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is marked as compiled yet."""
    monkeypatch.setattr(compiled, "cache_folder", lambda: tmp_path)
    return tmp_path


def test_the_user_is_told_once(folder: Path) -> None:
    lines: list[str] = []
    assert kernels.needs_compiling()
    kernels.warm_up(lines.append)
    assert lines == ["compiling kernels, once"]
    assert not kernels.needs_compiling()
    kernels.warm_up(lines.append)
    assert len(lines) == 1


def test_where_nothing_can_be_kept_the_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(compiled, "cache_folder", lambda: None)
    monkeypatch.setattr(warming, "every_operation", list)
    kernels.warm_up(lines.append)
    assert lines == ["compiling kernels, which no folder can keep: set NUMBA_CACHE_DIR to one"]
    assert kernels.needs_compiling()


def test_a_failure_leaves_it_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(warming, "every_operation", fail)
    with pytest.raises(KeyboardInterrupt):
        kernels.warm_up()
    assert kernels.needs_compiling()


def test_every_loop_is_compiled(folder: Path) -> None:
    """In single precision, or as part of one that is."""
    kernels.warm_up()
    loops: set[CPUDispatcher] = set()
    for found in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        if not found.name.endswith("_triton"):
            module = importlib.import_module(found.name)
            loops |= {value for value in vars(module).values() if isinstance(value, CPUDispatcher)}
    parts = {name for loop in loops for name in loop.py_func.__code__.co_names}
    called = [loop for loop in loops if loop.py_func.__name__ not in parts]
    assert len(called) > 20
    assert [loop for loop in called if not loop.signatures] == []
