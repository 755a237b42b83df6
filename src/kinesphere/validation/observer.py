"""From a run and its truth to the ideal observer of its images, and what that observer predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from kinesphere.errors import InputError
from kinesphere.imaging.forward import ForwardModel
from kinesphere.inference.observe import ImagesConfig, observe
from kinesphere.inference.run import Run
from kinesphere.motion.reference import BeadPlacement, build_reference
from kinesphere.validation.ideal import carry_along, fit_signal, state_posterior
from kinesphere.validation.metrics import rmsd
from kinesphere.validation.truth import Truth

_MOST_IMAGES = 4000
_MOST_PAIRS = 400_000  # images × states
_FEWEST_IMAGES = 200
_RESOLUTION_ANGSTROM = 4.0  # measured on adenylate kinase: 3 Å adds 3e-5 to r, 5 Å costs 2e-4
_BEAD_WIDTH_ANGSTROM = 2.0  # the scale per shell makes up for any other
_STRUCTURES_AT_ONCE = 256


@dataclass(frozen=True)
class IdealObserver:
    """The posterior of some images over the states that occur.

    Parameters
    ----------
    images
        (m,) rows of the particle set.
    shown
        (s,) the states that occur.
    posterior
        (m, s).
    """

    images: Int[np.ndarray, " m"]
    shown: Int[np.ndarray, " s"]
    posterior: Float[np.ndarray, "m s"]

    def expect(self, of_state: NDArray[np.floating]) -> NDArray[np.floating]:
        """Posterior mean of something that each state has: for every image the best prediction in least squares.

        Parameters
        ----------
        of_state
            (n_states, …).

        Returns
        -------
        ndarray
            (m, …).
        """
        return np.tensordot(self.posterior, of_state[self.shown], axes=1)

    def rmsd(self, truth: Truth) -> Float[np.ndarray, " m"]:
        """RMSD in Å of each image's posterior mean structure from the truth."""
        found = np.empty(len(self.images))
        for rows in np.array_split(np.arange(len(self.images)), len(self.images) // _STRUCTURES_AT_ONCE + 1):
            part = replace(self, images=self.images[rows], posterior=self.posterior[rows])
            found[rows] = rmsd(part.expect(truth.ca_states), truth.ca_states[truth.state[part.images]])
        return found


def choose_images(n_images: int, n_states: int, wanted: int | None) -> Int[np.ndarray, " m"]:
    """Choose evenly spaced images for the ideal observer, whose cost is images × states.

    Parameters
    ----------
    n_images
        Images there are.
    n_states
        States that occur.
    wanted
        How many to take; none: 4,000, or fewer where there are more than 100 states.

    Returns
    -------
    ndarray
        (m,) rows.

    Raises
    ------
    InputError
        If fewer than two images are wanted.
    """
    if wanted is not None and wanted < 2:
        raise InputError(
            "--ideal-images", f"{wanted} images give no correlation", "Ask for 2 or more, or for --no-ideal"
        )
    number = wanted or min(_MOST_IMAGES, max(_FEWEST_IMAGES, _MOST_PAIRS // n_states))
    number = min(number, n_images)
    return np.arange(number) * n_images // number


def observe_ideally(
    run: Run,
    truth: Truth,
    rows: Int[np.ndarray, " residues"],
    images: Int[np.ndarray, " m"],
    placement: BeadPlacement = "centroid",
    advance: Callable[[int], None] = lambda _: None,
) -> IdealObserver:
    """Infer the state of images of a run, knowing the states.

    Parameters
    ----------
    run
        The run: its particles, its nominal model and how it prepared its images.
    truth
        The truth, on the residues it shares with the model.
    rows
        (n_residues,) rows of those residues in the model.
    images
        (m,) rows of the particle set.
    placement
        The Gaussians that make up the molecule. Atoms cost five times as much as centroids and gain nothing that could
        be measured (r = 0.98934 against 0.98931 on adenylate kinase at 1.5 Å/px).
    advance
        Called with the number of images done since the last call.

    Returns
    -------
    IdealObserver
        With the states' frequencies among all images as prior.
    """
    reference = build_reference(run.model, run.centre_angstrom, source=str(run.path), placement=placement)
    shown, state = np.unique(truth.state, return_inverse=True)
    nominal = run.model.centres_angstrom[rows]
    owner = _truth_row(run, rows)[reference.residue.numpy()][reference.bead_owner.numpy()]
    beads = reference.beads.numpy().astype(np.float64) + run.centre_angstrom
    moved = carry_along(beads, owner, nominal, truth.ca_states[shown]) - run.centre_angstrom.astype(np.float32)
    states = torch.from_numpy(moved)
    with TemporaryDirectory() as scratch:
        observations = observe(run.particles[images], _images_config(run), Path(scratch) / "images.bin")
        forward = ForwardModel(observations.band, reference.amplitude / reference.amplitude.sum(), _BEAD_WIDTH_ANGSTROM)
        signal = fit_signal(observations, forward, states, torch.from_numpy(state[images]))
        prior = truth.populations[shown]
        posterior = state_posterior(observations, forward, signal, states, prior, advance)
    return IdealObserver(images, shown, posterior)


def _truth_row(run: Run, rows: Int[np.ndarray, " residues"]) -> Int[np.ndarray, " all"]:
    """Which of the truth's residues each residue of the model moves with: itself, or the nearest one that it has."""
    centres = run.model.centres_angstrom
    row = cKDTree(centres[rows]).query(centres)[1]
    row[rows] = np.arange(len(rows))
    return np.asarray(row, np.int64)


def _images_config(run: Run) -> ImagesConfig:
    """How the run prepared its images, but to where little is left to gain; it has accepted their aberrations."""
    config = ImagesConfig(**run.config["training"]["images"])
    finest = min(config.resolution_angstrom, _RESOLUTION_ANGSTROM)
    return replace(config, resolution_angstrom=finest, ignore_aberrations=True)
