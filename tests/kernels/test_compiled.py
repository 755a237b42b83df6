"""Where machine code is kept, and how rows are shared out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import kinesphere
from kinesphere.kernels import compiled
from kinesphere.kernels.compiled import over_rows

PACKAGE = Path(kinesphere.__file__).parent
SCRIPT = """
import time
from kinesphere import kernels
from kinesphere.kernels import compiled, warming
print(kernels.needs_compiling())
every = warming.every_operation()
warming.every_operation = lambda: [op for op in every if op.name == "carry"]
kernels.warm_up(print)
print(compiled.cache_folder())
from kinesphere.kernels import carriers
print(sum(carriers._carry.stats.cache_hits.values()))
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Sources with nowhere to keep code beside them, and a home."""
    sources, home = tmp_path / "sources", tmp_path / "home"
    sources.mkdir()
    home.mkdir()
    (sources / "loops.py").write_text("1")
    (sources / "loops_triton.py").write_text("1")
    monkeypatch.setattr(compiled, "_SOURCES", sources)
    monkeypatch.setattr(compiled, "cache_folder", compiled.cache_folder.__wrapped__)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(sys, "platform", "linux")
    for variable in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return {"sources": sources, "home": home, "chosen": tmp_path / "chosen"}


def block(folder: Path) -> None:
    """Make it impossible to write into a folder, for any user: a file has its name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("")


def test_code_is_kept_beside_the_sources_else_in_the_users_cache_else_nowhere(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def parent() -> Path | None:
        folder = compiled.cache_folder()
        return None if folder is None else folder.parent

    assert parent() == places["sources"] / "__pycache__"
    block(places["sources"] / "__pycache__")
    assert parent() == places["home"] / ".cache" / "kinesphere"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert parent() == places["home"] / "Library" / "Caches" / "kinesphere"
    monkeypatch.setenv("XDG_CACHE_HOME", str(places["chosen"]))
    assert parent() == places["chosen"] / "kinesphere"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(places["chosen"]))
    assert parent() == places["chosen"]
    block(places["chosen"])
    block(places["home"] / "Library")
    assert parent() is None


def test_a_user_without_a_home_gets_no_cache(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    block(places["sources"] / "__pycache__")
    monkeypatch.setattr(Path, "home", no_home)
    assert compiled.cache_folder() is None
    assert compiled.needs_compiling()
    compiled.mark_as_compiled()
    assert compiled.needs_compiling()


def test_a_change_in_any_loop_is_a_new_folder(places: dict[str, Path]) -> None:
    before = compiled.cache_folder()
    (places["sources"] / "loops_triton.py").write_text("2")
    assert compiled.cache_folder() == before
    (places["sources"] / "loops.py").write_text("2")
    assert compiled.cache_folder() != before


def test_loops_are_compiled_once_for_each_processor(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled.needs_compiling()
    compiled.mark_as_compiled()
    assert not compiled.needs_compiling()
    monkeypatch.setattr(compiled.llvmlite.binding, "get_host_cpu_name", lambda: "another")
    assert compiled.needs_compiling()


@pytest.mark.slow
def test_an_installation_that_cannot_be_written_to_keeps_code_for_its_user(tmp_path: Path) -> None:
    copied = tmp_path / "installed" / "kinesphere"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, copied, ignore=ignored)
    block(copied / "kernels" / "__pycache__")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(copied.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    lines = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")[:-1]
        for _ in range(2)
    ]
    kept = str(tmp_path / "home" / ".cache" / "kinesphere")
    first, second = lines
    assert first[:2] == ["True", "compiling kernels, once"]
    assert first[2].startswith(kept)
    assert first[3] == "0"
    assert second[0] == "False"
    assert second[1] == first[2]


def test_every_row_is_done_once_whatever_the_threads() -> None:
    done, threads = np.zeros(1000, int), set()

    def work(rows: slice) -> None:
        done[rows] += 1
        threads.add(threading.get_ident())

    over_rows(work, 1000, 1)
    assert threads == {threading.get_ident()}
    torch.set_num_threads(3)
    try:
        over_rows(work, 1000, 100)
    finally:
        torch.set_num_threads(1)
    assert done.tolist() == [2] * 1000
    assert threading.get_ident() in threads
    assert len(threads) > 1
