"""Runs with a known motion for the tests of the analysis."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load_fake_run() -> ModuleType:
    """Import the helper beside this file; test folders are not packages."""
    path = Path(__file__).with_name("fake_run.py")
    spec = importlib.util.spec_from_file_location("kinesphere_fake_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module that makes runs with a known motion."""
    return load_fake_run()


@pytest.fixture(scope="session")
def run(fake: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One swinging segment of four, two populations, 2,000 particles."""
    return fake.hinge_run(tmp_path_factory.mktemp("run"))
