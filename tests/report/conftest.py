"""A finished run with a known motion, and its page opened in a browser."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kinesphere.analysis.summary import Analysis, AnalysisSettings, analyse
from kinesphere.report.page import write_report


def load_module(path: Path) -> ModuleType:
    """Import a helper by its path; test folders are not packages."""
    name = f"kinesphere_tests_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module that makes runs with a known motion."""
    return load_module(Path(__file__).parents[1] / "analysis" / "fake_run.py")


@pytest.fixture(scope="session")
def run(fake: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One swinging segment of four, two populations, 2,000 particles; its name would end a script."""
    folder = tmp_path_factory.mktemp("runs") / "first <script> & run"
    folder.mkdir()
    return fake.hinge_run(folder)


@pytest.fixture(scope="session")
def analysis(run: Any) -> Analysis:
    return analyse(run, AnalysisSettings(frames=11))


@pytest.fixture(scope="session")
def page(run: Any, analysis: Analysis) -> Path:
    return write_report(run, analysis, run.path / "report.html")


@pytest.fixture(scope="session")
def browse(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Open a page in headless Chromium: `with browse(page, width=390) as browser`."""
    module = load_module(Path(__file__).with_name("browser.py"))

    @contextmanager
    def opened(page: Path, width: int = 1000, height: int = 800, *, dark: bool = False) -> Iterator[Any]:
        with module.Browser(chromium, tmp_path_factory.mktemp("profile"), width, height) as browser:
            browser.open(page, dark=dark)
            yield browser

    return opened


@pytest.fixture(scope="module")
def browser(browse: Callable[..., Any], page: Path) -> Iterator[Any]:
    """The page of the known run, open; tests that share it set what they look at."""
    with browse(page) as opened:
        yield opened
