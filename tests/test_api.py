"""What `kinesphere.load` returns: a run that makes volumes and knows its errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import kinesphere
from helpers.brief_run import N_IMAGES, brief_run, brief_set  # noqa: F401 - fixtures
from kinesphere.api import LoadedRun
from kinesphere.errors import InputError
from kinesphere.io.mrc import read_map


@pytest.fixture(scope="module")
def run(
    brief_run: Path,  # noqa: F811 - a fixture
    tmp_path_factory: pytest.TempPathFactory,
) -> LoadedRun:
    """A copy, in which volumes may leave files."""
    return kinesphere.load(shutil.copytree(brief_run, tmp_path_factory.mktemp("api") / "run"))


def test_a_volume_is_on_the_grid_of_the_consensus_map_and_looks_like_it(
    run: LoadedRun,
    brief_set: Path,  # noqa: F811 - a fixture
) -> None:
    consensus = read_map(brief_set / "consensus.mrc")
    volume = run.volume(run.latents.mean.mean(0), fraction=1.0)
    assert volume.data.shape == consensus.data.shape
    assert volume.pixel_size_angstrom == pytest.approx(consensus.pixel_size_angstrom)
    np.testing.assert_allclose(volume.centre_angstrom, consensus.centre_angstrom, atol=1e-3)
    assert np.corrcoef(volume.data.ravel(), consensus.data.ravel())[0, 1] > 0.6


@pytest.mark.parametrize("z", [[0.0], [0.0, 0.0, 0.0], [0.0, np.nan]])
def test_what_is_no_place_of_the_latent_space_is_refused(run: LoadedRun, z: object) -> None:
    with pytest.raises(InputError, match="is no place of this latent space. Give 2 finite"):
        run.volume(z)


@pytest.mark.parametrize("fraction", [0.0, -0.2, 1.5])
def test_what_is_no_fraction_is_refused(run: LoadedRun, fraction: float) -> None:
    with pytest.raises(InputError, match="--fraction"):
        run.volume([0.0, 0.0], fraction=fraction)


def test_displacements_come_with_errors_in_any_order(run: LoadedRun) -> None:
    images = np.array([9, 3])
    found = run.displacement_errors(images)
    assert found.displacement.shape == (2, run.model.n_residues, 3)
    assert found.total.shape == (2, run.model.n_residues)
    assert (found.total > 0).all()
    turned = run.displacement_errors(images[::-1])
    np.testing.assert_allclose(turned.displacement[::-1], found.displacement, atol=1e-6)
    np.testing.assert_allclose(turned.total[::-1], found.total, rtol=1e-5)
    with pytest.raises(InputError, match=f"{N_IMAGES}"):
        run.displacement_errors([N_IMAGES])


def test_errors_are_those_of_the_model_that_is_carried(run: LoadedRun) -> None:
    run.displacement_errors([0])
    some = run.model.residue_index < 50
    part = run.with_model(run.model.select(some))
    assert isinstance(part, LoadedRun)
    assert part.displacement_errors([0]).total.shape == (1, 50)
    assert run.displacement_errors([0]).total.shape == (1, run.model.n_residues)
