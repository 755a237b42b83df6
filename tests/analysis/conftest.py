"""Runs with a known motion for the tests of the analysis."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from helpers import fake_run


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module that makes runs with a known motion."""
    return fake_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One swinging segment of four, two populations, 2,000 particles."""
    return fake_run.hinge_run(tmp_path_factory.mktemp("run"))
