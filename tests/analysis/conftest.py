"""Runs with a known motion for the tests of the analysis."""

from __future__ import annotations

from types import ModuleType

import pytest

from helpers import fake_run
from helpers.fake_run import run  # noqa: F401 - fixture


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module that makes runs with a known motion."""
    return fake_run
