"""Clean images: protein is bright, and how many are made at once changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.simulated import SMALL, clean_particles
from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase
from kinesphere.simulate.images import batch_size


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(5)


def test_protein_is_positive_at_low_resolution(kinase: Ensemble) -> None:
    recipe = replace(
        SMALL,
        n=20,
        amplitude_contrast=1.0,
        defocus_um=(0.0, 0.0),
        astigmatism_angstrom=0.0,
        shift_px=0.0,
    )
    images = clean_particles(kinase, recipe)
    assert (images[:, 14:18, 14:18].mean(axis=(1, 2)) > images[:, :4].mean(axis=(1, 2))).all()


def test_images_do_not_depend_on_how_many_are_made_at_once(
    kinase: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = clean_particles(kinase, SMALL)
    monkeypatch.setattr("kinesphere.simulate.images.batch_size", lambda *_: 7)
    np.testing.assert_allclose(
        clean_particles(kinase, SMALL), together, atol=1e-5 * np.abs(together).max()
    )


@pytest.mark.parametrize(("n_atoms", "box"), [(10, 16), (1_000_000, 64), (500, 2048)])
def test_at_least_one_image_is_made_at_once(n_atoms: int, box: int) -> None:
    size = batch_size(n_atoms, box)
    assert size >= 1
    assert size == 1 or size * max(n_atoms / 60_000, box**2 / 1_000_000) <= 1
