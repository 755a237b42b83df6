"""The example scripts run as they stand, small, and find what they say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kinesphere.io.mrc import write_map
from kinesphere.io.structure import read_model, read_models
from kinesphere.particles import ParticleSet

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name: str) -> ModuleType:
    """Import an example by its file name, which starts with a number."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


def test_a_motion_is_recovered_and_looked_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = example("01_recover_a_motion")
    first.main(first.Options(tmp_path, images=300, box=32, epochs=8))  # of which half are coarse
    found, still = map(float, re.findall(r"([\d.]+) Å", capsys.readouterr().out))
    assert found < still

    second = example("02_look_into_a_run")
    second.main(second.Options(tmp_path / "run", "A:122-159", "A:30-59"))
    median, low, high = map(
        float, re.findall(r"([\d.]+) (?:Å|to)", capsys.readouterr().out.split(":", 3)[3])
    )
    assert low <= median <= high
    _, ends = read_models(tmp_path / "run" / "two_ends.cif")
    assert len(ends) == 2
    assert 15 <= len(ParticleSet.read(tmp_path / "run" / "near.star")) <= 16


def test_pseudo_atoms_fill_the_density(tmp_path: Path) -> None:
    """An ellipsoid of 60 × 40 × 40 Å in a noisy map: beads lie in it, spaced as asked, neighbours
    beside each other."""
    third = example("03_pseudo_atomic_model")
    pixel_size, n = 4.0, 32
    place = (np.indices((n, n, n))[::-1].transpose(1, 2, 3, 0) - n // 2) * pixel_size
    inside = ((place / [30, 20, 20]) ** 2).sum(-1) < 1
    density = inside + 0.05 * np.random.default_rng(0).normal(size=inside.shape)
    write_map(tmp_path / "map.mrc", density.astype(np.float32), pixel_size)
    third.main(third.Options(tmp_path / "map.mrc", tmp_path / "model.pdb", spacing_angstrom=10.0))
    model = read_model(tmp_path / "model.pdb")
    local = model.positions_angstrom - pixel_size * (n // 2)
    assert ((local / [32, 22, 22]) ** 2).sum(-1).max() < 1
    assert model.n_residues == pytest.approx(4 / 3 * np.pi * 30 * 20 * 20 / 10**3, rel=0.2)
    step = np.linalg.norm(np.diff(local, axis=0), axis=1)
    assert np.median(step) == pytest.approx(10, rel=0.25)
