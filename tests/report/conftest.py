"""A finished run with a known motion, and its page opened in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers import fake_run
from helpers.browser import Browser
from kinesphere.analysis.summary import Analysis, AnalysisSettings, analyse
from kinesphere.report.page import write_report


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module that makes runs with a known motion."""
    return fake_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One swinging segment of four, two populations, 2,000 particles; its name would end a
    script."""
    folder = tmp_path_factory.mktemp("runs") / "first <script> & run"
    folder.mkdir()
    return fake_run.hinge_run(folder)


@pytest.fixture(scope="session")
def analysis(run: Any) -> Analysis:
    return analyse(run, AnalysisSettings(frames=11))


@pytest.fixture(scope="session")
def page(run: Any, analysis: Analysis) -> Path:
    return write_report(run, analysis, run.path / "report.html")


@pytest.fixture(scope="session")
def browse(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Open a page in headless Chromium: `with browse(page, width=390) as browser`."""

    @contextmanager
    def opened(
        page: Path, width: int = 1000, height: int = 800, *, dark: bool = False
    ) -> Iterator[Any]:
        with Browser(chromium, tmp_path_factory.mktemp("profile"), width, height) as browser:
            browser.open(page, dark=dark)
            yield browser

    return opened


@pytest.fixture(scope="module")
def browser(browse: Callable[..., Any], page: Path) -> Iterator[Any]:
    """The page of the known run, open; tests that share it set what they look at."""
    with browse(page) as opened:
        yield opened
