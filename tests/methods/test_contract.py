"""What every method of the registry keeps to; a further one is held to it by its name alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.small_set import simulate_set
from kinesphere import load
from kinesphere.cli.main import main
from kinesphere.io.structure import read_model
from kinesphere.methods.base import Method
from kinesphere.methods.molecule import Molecule
from kinesphere.methods.registry import METHOD_NAMES, method_class
from kinesphere.motion.base import Motion
from kinesphere.particles import ParticleSet
from kinesphere.runs import job as job_module
from kinesphere.runs.job import run_job

N_IMAGES = 400
LATENT_DIM = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adenylate kinase opening and closing, with little noise."""
    folder = tmp_path_factory.mktemp("contract") / "set"
    simulate_set(folder, N_IMAGES, seed=5, n_states=9)
    return folder


@pytest.fixture(scope="module", params=METHOD_NAMES)
def method(request: pytest.FixtureRequest, data: Path) -> Method[Any]:
    """A method on that set, with its defaults but for a short schedule."""
    default = method_class(request.param).from_files(
        data / "particles.star", data / "consensus.mrc", data / "model.cif"
    )
    training = default.options.training
    brief = replace(
        training,
        schedule=replace(training.schedule, epochs=6),
        latents=replace(training.latents, n_nodes=16, latent_dim=LATENT_DIM),
        batch_size=32,
        threads=1,
    )
    return default.with_options(training=brief)


@pytest.fixture(scope="module")
def molecule(method: Method[Any], data: Path) -> Molecule:
    """What the method moves."""
    return method.read(ParticleSet.read(data / "particles.star"))


@pytest.fixture
def motion(method: Method[Any], molecule: Molecule) -> Motion:
    """The method's motion model, before it has learnt anything."""
    torch.manual_seed(0)
    filled = method.resolved(len(molecule.reference.points), N_IMAGES)
    return filled.make_motion(molecule.reference).eval()


@pytest.fixture(scope="module")
def run(method: Method[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp(method.name) / "run"
    run_job(method, folder)
    return folder


def test_hardly_anything_moves_before_anything_is_learnt(
    motion: Motion, molecule: Molecule
) -> None:
    z = torch.cat([torch.zeros(1, LATENT_DIM), torch.randn(20, LATENT_DIM)])
    with torch.no_grad():
        moved = (motion(z) - molecule.reference.points).norm(dim=-1)
    assert float(moved[0].max()) < 0.5
    assert float(moved.mean()) < 1.0


def test_shapes_and_parts(motion: Motion, molecule: Molecule) -> None:
    reference = molecule.reference
    z = torch.randn(5, LATENT_DIM)
    n_points = len(reference.points)
    with torch.no_grad():
        assert motion(z).shape == (5, n_points, 3)
        atoms = motion.move(z, reference.atoms, reference.atom_owner)
        assert atoms.shape == (5, len(reference.atoms), 3)
        states = motion.states(z)
        some = states[torch.tensor([3, 1])].move(reference.atoms, reference.atom_owner)
        torch.testing.assert_close(some, atoms[[3, 1]])
        shares = motion.memberships()
    assert len(shares) == n_points
    torch.testing.assert_close(shares.sum(1), torch.ones(n_points))
    assert float(shares.min()) >= 0.0


def test_gradient_with_respect_to_latents(motion: Motion, molecule: Molecule) -> None:
    exact = motion.double()
    reference = molecule.reference
    chosen = torch.arange(0, len(reference.atoms), max(1, len(reference.atoms) // 40))
    points, owner = reference.atoms.double()[chosen], reference.atom_owner[chosen]
    weight = torch.randn(len(points), 3, dtype=torch.float64)
    z = torch.randn(1, LATENT_DIM, dtype=torch.float64, requires_grad=True)

    def value(latent: torch.Tensor) -> torch.Tensor:
        return (exact.move(latent, points, owner) * weight).sum()

    (gradient,) = torch.autograd.grad(value(z), z)
    step = 1e-4
    for axis in range(LATENT_DIM):
        offset = torch.zeros_like(z)
        offset[0, axis] = step
        with torch.no_grad():
            slope = (value(z + offset) - value(z - offset)) / (2.0 * step)
        assert float(gradient[0, axis]) == pytest.approx(float(slope), rel=1e-4, abs=1e-6)


def test_a_run_opens_as_it_was_saved(run: Path, method: Method[Any]) -> None:
    first, second = load(run), load(run)
    assert first.method.name == method.name
    assert first.options.training.latents.latent_dim == LATENT_DIM
    images = [0, 7, N_IMAGES - 1]
    structures = first.structures(images)
    assert np.isfinite(structures).all()
    np.testing.assert_array_equal(structures, second.structures(images))
    centres = structures[:, first.model.centre_atom]
    np.testing.assert_allclose(first.residues(images), centres, atol=1e-4)


def test_a_small_simulated_set_is_recovered(
    run: Path, data: Path, method: Method[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    carried = [] if method.moves_atoms else ["--model", str(data / "model.cif")]
    truth = ["--truth", str(data / "truth.npz")]
    capsys.readouterr()
    assert main(["evaluate", str(run), *truth, *carried, "--ideal-images", "100"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["r_main_motion"] > 0.9
    assert scores["ca_rmsd_median"] < 0.7 * scores["still_rmsd_median"]


def test_a_stopped_run_goes_on_to_the_same_result(method: Method[Any], tmp_path: Path) -> None:
    training = method.options.training
    schedule = replace(training.schedule, epochs=2)
    brief = method.with_options(training=replace(training, schedule=schedule, batch_size=100))
    line = job_module._epoch_line

    def stop_after_the_first(metrics: dict[str, float], n_epochs: int) -> str:
        if metrics["epoch"] == 1:
            raise KeyboardInterrupt
        return line(metrics, n_epochs)

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_job(brief, whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinesphere.runs.job._epoch_line", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            run_job(brief, stopped)
    assert not (stopped / "latents.npz").exists()
    run_job(brief, stopped)
    np.testing.assert_array_equal(load(stopped).latents.mean, load(whole).latents.mean)


def test_every_later_command_runs(
    run: Path, data: Path, method: Method[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("0\n1\n2\n")
    commands = [
        ["analyze", str(folder), "--frames", "3", "--components", "1"],
        ["structures", str(folder), "--images", "0,1", "--out", str(tmp_path / "two.npz")],
        ["reconstruct", str(folder)],
        ["volumes", str(folder), "--steps", "2", "--method", "kernel"],
        ["validate", str(folder), "--n-images", "100", "--n-seeds", "1"],
        ["report", str(folder)],
        ["select", str(folder), "--indices", str(chosen), "--out", str(tmp_path / "few.star")],
    ]
    for command in commands:
        assert main(command) == 0, capsys.readouterr().err
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "reconstruction" / "map.mrc").exists()
    assert len(ParticleSet.read(tmp_path / "few.star")) == 3
    with np.load(tmp_path / "two.npz") as structures:
        assert structures["positions"].shape == (2, load(folder).model.n_atoms, 3)
    code = main(["invert", str(folder), "--n-images", "20"])
    if method.moves_atoms:
        assert code == 2
        assert "moves residues" in capsys.readouterr().err
        carried = load(folder).with_model(read_model(data / "model.cif"))
        assert carried.structures([0]).shape[1] == carried.model.n_atoms
    else:
        assert code == 0
