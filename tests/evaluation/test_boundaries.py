"""The hinge of a chain that turns in two rigid pieces, seen by segments with boundaries in several
places."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.evaluation.boundaries import boundary_distances
from kinesphere.simulate.ensembles import Ensemble


@pytest.fixture
def turning(ensemble: Ensemble) -> np.ndarray:
    """Residues from 100 on turn about residue 100 by up to 40 degrees."""
    centres = ensemble.model.centres_angstrom
    structures = np.repeat(centres[None], 12, axis=0)
    pivot = centres[99]
    for image, angle in enumerate(np.linspace(-20.0, 20.0, 12)):
        turn = Rotation.from_rotvec([0.0, 0.0, angle], degrees=True)
        structures[image, 99:] = turn.apply(centres[99:] - pivot) + pivot
    return structures


def test_the_boundary_that_cuts_the_motion_is_the_main_one(
    ensemble: Ensemble, turning: np.ndarray
) -> None:
    segment = np.digitize(
        np.arange(ensemble.model.n_residues), [40, 97, 150]
    )  # boundaries after 40, 97 and 150
    found = boundary_distances(ensemble.model, "A:100", segment, turning)
    assert (found.nearest, found.main) == (2.0, 2.0)
    far = boundary_distances(ensemble.model, "A:152", segment, turning)
    assert (far.nearest, far.main) == (1.0, 54.0)


def test_one_segment_has_no_boundary(ensemble: Ensemble, turning: np.ndarray) -> None:
    found = boundary_distances(
        ensemble.model, "A:100", np.zeros(ensemble.model.n_residues, int), turning
    )
    assert found.nearest == found.main == np.inf


@pytest.mark.parametrize("hinge", ["A:1-5", "B:7", "?", "A"])
def test_a_hinge_is_one_residue(hinge: str, ensemble: Ensemble, turning: np.ndarray) -> None:
    with pytest.raises(InputError, match="--hinge: .*Name one residue, as in B:226"):
        boundary_distances(ensemble.model, hinge, np.zeros(ensemble.model.n_residues, int), turning)
