"""A finished run, opened: structures, displacements and residues are of one motion."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.brief_run import LATENT_DIM, N_IMAGES
from kinesphere.errors import InputError
from kinesphere.io.structure import read_model
from kinesphere.runs.finished_run import FinishedRun, RunWithImages
from kinesphere.runs.run import Run

IMAGES = np.array([7, 0, 31])


@pytest.fixture(scope="module")
def run(brief_run: Path) -> Run:
    return Run(brief_run)


def test_a_run_offers_what_later_stages_ask_for(run: Run) -> None:
    assert isinstance(run, FinishedRun)
    assert isinstance(run, RunWithImages)
    assert len(run.particles) == len(run.latents.index) == N_IMAGES
    assert run.latents.mean.shape == (N_IMAGES, LATENT_DIM)
    assert run.metrics["epoch"].tolist() == [1.0]
    assert list(run.motions) == [0]


def test_structures_of_images_are_those_of_their_latents(run: Run) -> None:
    z = run.latents.mean[IMAGES]
    structures = run.structures(IMAGES)
    np.testing.assert_array_equal(structures, run.decode_atoms(z))
    np.testing.assert_array_equal(run.residues(IMAGES), run.decode(z))
    np.testing.assert_array_equal(run.residues(IMAGES), structures[:, run.model.centre_atom])
    motion, latent = run.motion_of(7)
    reference = run.reference
    with torch.no_grad():
        moved = motion.move(latent[None], reference.atoms, reference.atom_owner)[0]
    np.testing.assert_allclose(structures[0], moved.numpy() + run.centre_angstrom, atol=1e-4)


def test_displacements_lead_from_the_input_model_to_the_structures(run: Run) -> None:
    """Of the residues' central atoms: nearest to themselves, so moved with their own residue."""
    centres = run.model.centres_angstrom
    moved = centres + run.displacements(centres, IMAGES)
    np.testing.assert_allclose(moved, run.residues(IMAGES), atol=1e-3)
    assert np.abs(run.displacements(centres, IMAGES)).max() > 1e-3


def test_memberships_are_shares(run: Run) -> None:
    assert run.memberships.shape[0] == run.model.n_residues
    np.testing.assert_allclose(run.memberships.sum(1), 1.0, atol=1e-5)


def test_a_model_carried_along_moves_with_the_residues_nearest_to_its_atoms(
    run: Run, brief_set: Path
) -> None:
    """The run's own model, so the central atom of a residue is nearest to itself."""
    other = run.with_model(read_model(brief_set / "model.cif"))
    np.testing.assert_allclose(other.residues(IMAGES), run.residues(IMAGES), atol=1e-3)
    places = run.model.positions_angstrom
    np.testing.assert_allclose(
        other.structures(IMAGES) - places, run.displacements(places, IMAGES), atol=1e-3
    )
    assert other.carried_model.states == {}


def test_part_of_the_model_moves_as_it_does_in_the_whole(run: Run) -> None:
    part = run.with_model(run.model.select(np.isin(run.model.residue_index, np.arange(40, 90))))
    np.testing.assert_allclose(part.residues(IMAGES), run.residues(IMAGES)[:, 40:90], atol=1e-3)
    assert run.model.n_residues > 90  # the run itself carries what it did


def test_images_that_there_are_not_are_refused(run: Run) -> None:
    for image in (-1, N_IMAGES):
        with pytest.raises(InputError, match=f"the run has {N_IMAGES}"):
            run.structures([image])
    assert run.structures(np.array([], dtype=np.int64)).shape == (0, run.model.n_atoms, 3)


def test_images_are_prepared_as_for_training_and_scored_with_its_noise(run: Run) -> None:
    observations = run.observations(IMAGES)
    assert len(observations) == len(IMAGES)
    np.testing.assert_allclose(
        observations.rotation.numpy(), run.particles.rotation[IMAGES], atol=1e-6
    )
    likelihood = run.likelihood(0, observations.band)
    prepared = likelihood.prepare(observations.batch(torch.arange(3)))
    # in units of the noise, a real or imaginary part has variance one, and the signal comes on top
    per_value = prepared.norm / likelihood.n_values
    assert 0.7 < float(per_value.mean()) < 3.0


def test_an_unfinished_run_says_how_to_finish_it(brief_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(brief_run, tmp_path / "run"))
    (folder / "latents.npz").unlink()
    with pytest.raises(InputError, match=r"latents\.npz: .*has not finished.*it continues"):
        Run(folder)


def test_latents_decide_where_atoms_are(run: Run) -> None:
    other = Run(run.path)
    other.latents = replace(run.latents, mean=run.latents.mean[::-1].copy())
    np.testing.assert_array_equal(other.structures(N_IMAGES - 1 - IMAGES), run.structures(IMAGES))
