"""What each package's face offers is there, and importing the package brings no heavy library."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import kinesphere

HEAVY = ("torch", "numba", "scipy", "sklearn", "gemmi")


def faces() -> list[ModuleType]:
    """List the packages whose public names come from a stub."""
    packages = [
        importlib.import_module(f"kinesphere.{module.name}")
        for module in pkgutil.iter_modules(kinesphere.__path__)
        if module.ispkg
    ]
    return [package for package in packages if hasattr(package, "__all__")]


FACES = faces()


def test_some_package_has_a_face() -> None:
    assert {"kinesphere.io", "kinesphere.particles"} <= {package.__name__ for package in FACES}


@pytest.mark.parametrize("package", FACES, ids=lambda package: package.__name__)
def test_every_public_name_is_there(package: ModuleType) -> None:
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert set(package.__all__) & modules == set(), "a module would hide the name"
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_faces_are_light() -> None:
    imports = "; ".join(f"import {package.__name__}" for package in FACES)
    code = f"import sys; {imports}; print([n for n in {HEAVY} if n in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
