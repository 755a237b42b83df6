"""A small simulated set, and the pieces of a molecule that its tests measure."""

from __future__ import annotations

import numpy as np

from kinesphere.io.structure import AtomicModel
from kinesphere.simulate.draws import draw_particles
from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.images import clean_images
from kinesphere.simulate.recipe import Recipe

SMALL = Recipe(
    n=60, box=32, pixel_size=3.5, snr=0.2, seed=3, pose_error_degrees=2.0, shift_error_px=0.5
)


def clean_particles(ensemble: Ensemble, recipe: Recipe) -> np.ndarray:
    """Image all particles of a recipe without noise."""
    particles = draw_particles(recipe, ensemble.coordinate)
    return np.concatenate(list(clean_images(ensemble.centred(), particles, recipe)))


def residue_centres(ensemble: Ensemble) -> np.ndarray:
    """Give the residue centres in every state, (n_states, n_residues, 3)."""
    return ensemble.positions[:, ensemble.model.centre_atom]


def rows_between(model: AtomicModel, first: int, last: int) -> np.ndarray:
    """Give the rows of residues by their first and last number."""
    return np.flatnonzero((model.residue_number >= first) & (model.residue_number <= last))
