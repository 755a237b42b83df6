"""From a run and its truth to the ideal observer of its images; what that observer scores is the
limit that the noise sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from kinesphere.analysis.ensemble import sample_images
from kinesphere.errors import InputError
from kinesphere.evaluation.distances import Distance, distance_scores, measure_all
from kinesphere.evaluation.embedding import (
    IMAGES_FOR_NEIGHBOURS,
    information_imbalance,
    neighbourhood_similarity,
)
from kinesphere.evaluation.ideal import (
    BoxedImages,
    BoxedModel,
    carry_along,
    fit_signal,
    state_posterior,
)
from kinesphere.evaluation.metrics import MainMotion, pearson, rmsd, spearman
from kinesphere.evaluation.predictions import Predictions
from kinesphere.evaluation.truth import Truth
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.motion.beads import BeadPlacement
from kinesphere.motion.reference import build_reference
from kinesphere.observations.options import ImagesConfig
from kinesphere.particles.ctf_parameters import ctf_parameters
from kinesphere.particles.options import LoaderOptions
from kinesphere.particles.streaming import ImageLoader
from kinesphere.runs.run import Run

_MOST_IMAGES = 4000
_FEWEST_IMAGES = 200
_MOST_PAIRS = 400_000
_SHELLS_OF_A_PAIR = 32
_RESOLUTION_ANGSTROM = (
    4.0  # measured on adenylate kinase: 5 Å costs 0.003 of r at an SNR of 0.01, 3 Å adds nothing
)
_RESOLUTION_OF_ATOMS_ANGSTROM = 6.0
_MOST_ATOMS = 5000
_BEAD_WIDTH_ANGSTROM = 1.0  # the scale per shell makes up for any other
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
        """Posterior mean of something that each state has: for every image the best prediction in
        least squares.

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
        result = np.empty(len(self.images))
        for rows in np.array_split(
            np.arange(len(self.images)), len(self.images) // _STRUCTURES_AT_ONCE + 1
        ):
            part = replace(self, images=self.images[rows], posterior=self.posterior[rows])
            result[rows] = rmsd(
                part.expect(truth.ca_states), truth.ca_states[truth.state[part.images]]
            )
        return result


def choose_images(
    n_images: int, n_states: int, n_shells: int, wanted: int | None = None
) -> Int[np.ndarray, " m"]:
    """Choose evenly spaced images for the ideal observer, whose cost is images × states × size of
    the images.

    Parameters
    ----------
    n_images
        Images there are.
    n_states
        States that occur.
    n_shells
        Resolution shells that are compared.
    wanted
        How many to take; none: 4,000, or fewer (but 200) beyond 100 states or 32 shells.

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
            "--ideal-images",
            f"{wanted} images give no correlation",
            "Ask for 2 or more, or for --no-ideal",
        )
    most_pairs = _MOST_PAIRS * min(1.0, (_SHELLS_OF_A_PAIR / n_shells) ** 2)
    number = wanted or min(_MOST_IMAGES, max(_FEWEST_IMAGES, int(most_pairs / n_states)))
    number = min(number, n_images)
    return np.arange(number) * n_images // number


def observe_ideally(
    run: Run,
    truth: Truth,
    rows: Int[np.ndarray, " residues"],
    n_images: int | None = None,
    placement: BeadPlacement | None = None,
    advance: Callable[[int, int], None] = lambda _done, _all: None,
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
    n_images
        How many images to look at; none: see `choose_images`.
    placement
        The Gaussians that make up the molecule; none: atoms, up to 5,000 of them and where the
        pixels resolve better than 6 Å, else residues' centroids. On simulated adenylate kinase (1.5
        Å/px) atoms raise r from 0.859 to 0.867 at an SNR of 0.01; on an antibody at 4 Å/px they
        gain 0.0004 for ten times the time.
    advance
        Called with the number of images done since the last call, and of all to be done.

    Returns
    -------
    IdealObserver
        With the states' frequencies among all images as prior.
    """
    config = ImagesConfig(**run.config["training"]["images"])
    options = LoaderOptions(
        shuffle=False, normalise=config.normalise, invert_contrast=config.invert_contrast
    )
    loader = ImageLoader(run.particles, options)
    grid = RenderGrid(loader.grid.box_px, loader.grid.pixel_size_angstrom)
    n_shells = min(int(loader.grid.extent_angstrom / _RESOLUTION_ANGSTROM), grid.box // 2 - 1)
    shown, state = np.unique(truth.state, return_inverse=True)
    images = choose_images(len(truth.state), len(shown), n_shells, n_images)
    boxed = _boxed_images(run, loader, images, grid)
    amplitude, states = _true_states(
        run, truth.ca_states[shown], rows, placement or default_placement(run, grid)
    )
    model = BoxedModel(grid, n_shells, amplitude, _BEAD_WIDTH_ANGSTROM)
    signal = fit_signal(boxed, model, states, torch.from_numpy(state[images]))
    prior = truth.populations[shown]
    posterior = state_posterior(
        boxed, model, signal, states, prior, lambda done: advance(done, len(images))
    )
    return IdealObserver(images, shown, posterior)


def default_placement(run: Run, grid: RenderGrid) -> BeadPlacement:
    """Atoms where the images tell them from residues and there are not too many, else centroids of
    residues.
    """
    resolved = 2.0 * grid.pixel_size_angstrom < _RESOLUTION_OF_ATOMS_ANGSTROM
    return "atoms" if resolved and len(run.model.atomic_number) <= _MOST_ATOMS else "centroid"


def _true_states(
    run: Run,
    ca_states: Float[np.ndarray, "s residues 3"],
    rows: Int[np.ndarray, " residues"],
    placement: BeadPlacement,
) -> tuple[Tensor, Tensor]:
    """Amplitudes of the Gaussians, adding up to 1, and their positions in every state, box centre
    at zero.
    """
    reference = build_reference(
        run.model, run.centre_angstrom, source=str(run.path), placement=placement
    )
    owner = _truth_row(run, rows)[reference.residue.numpy()][reference.bead_owner.numpy()]
    beads = reference.beads.numpy().astype(np.float64) + run.centre_angstrom
    moved = carry_along(beads, owner, run.model.centres_angstrom[rows], ca_states)
    states = torch.from_numpy(moved - run.centre_angstrom.astype(np.float32))
    return reference.amplitude / reference.amplitude.sum(), states


def _boxed_images(
    run: Run, loader: ImageLoader, images: Int[np.ndarray, " m"], grid: RenderGrid
) -> BoxedImages:
    particles = run.particles[images]
    return BoxedImages(
        images=loader.load(images),
        shift_angstrom=torch.from_numpy(
            np.ascontiguousarray(particles.shift_angstrom, dtype=np.float32)
        ),
        rotation=torch.from_numpy(np.ascontiguousarray(particles.rotation, dtype=np.float32)),
        ctf=ctf_parameters(particles),
        group=torch.from_numpy(np.ascontiguousarray(particles.optics_group, dtype=np.int64)),
        grid=grid,
    )


def _truth_row(run: Run, rows: Int[np.ndarray, " residues"]) -> Int[np.ndarray, " all"]:
    """Which of the truth's residues each residue of the model moves with: itself, or the nearest
    one that it has.
    """
    centres = run.model.centres_angstrom
    row = cKDTree(centres[rows]).query(centres)[1]
    row[rows] = np.arange(len(rows))
    return np.asarray(row, np.int64)


def add_limits(
    scores: dict[str, Any],
    truth: Truth,
    motion: MainMotion,
    distances: Sequence[Distance],
    predictions: Predictions,
    smooth: Float[np.ndarray, "n k"],
    ideal: IdealObserver,
) -> None:
    """Add the scores of the ideal observer's posterior means, and what fraction of them the run
    reaches.

    Parameters
    ----------
    scores
        Of the run; the entries of its `distances` are added to, too.
    truth, motion, distances, predictions
        What the run was scored with.
    smooth
        (n, k) the coordinates as smooth functions of the latents predict them.
    ideal
        The ideal observer. Fractions compare on the images that it has seen.
    """
    images = ideal.images
    scores["ideal_n"] = len(images)
    _add_rmsd(scores, truth, predictions, ideal)

    predicted = predictions.main_motion[images]
    limit = ideal.expect(motion.project(truth.ca_states))
    true = motion.project(truth.ca_states)[truth.state[images]]
    for name, correlate, fraction in (
        ("r_main_motion", pearson, "fraction_of_ideal"),
        ("spearman_main_motion", spearman, "fraction_of_ideal_spearman"),
    ):
        scores[f"ideal_{name}"] = correlate(limit, true)
        scores[fraction] = _ratio(correlate(predicted, true), scores[f"ideal_{name}"])

    columns = list(zip(predictions.coordinate[images].T, _coordinate(truth, ideal).T, strict=True))
    for name, correlate in (("r_coordinate", pearson), ("spearman_coordinate", spearman)):
        pairs = list(zip(columns, truth.coordinate[images].T, strict=True))
        scores[f"ideal_{name}"] = [correlate(limit, true) for (_, limit), true in pairs]
        scores[f"fraction_of_ideal_{name}"] = [
            _ratio(correlate(predicted, true), correlate(limit, true))
            for (predicted, limit), true in pairs
        ]

    scores["fraction_of_ideal_latent_smooth_r_coordinate"] = [
        _ratio(pearson(predicted, true), limit)
        for predicted, true, limit in zip(
            smooth[images].T, truth.coordinate[images].T, scores["ideal_r_coordinate"], strict=True
        )
    ]

    _add_neighbours(scores, truth, ideal)
    _add_distances(scores, truth, distances, predictions, ideal)


def _coordinate(truth: Truth, ideal: IdealObserver) -> np.ndarray:
    return ideal.expect(np.nan_to_num(truth.state_coordinate))


def _add_rmsd(
    scores: dict[str, Any], truth: Truth, predictions: Predictions, ideal: IdealObserver
) -> None:
    error = ideal.rmsd(truth)
    scores["ideal_ca_rmsd_median"] = float(np.median(error))
    scores["ideal_ca_rmsd_quartiles"] = np.percentile(error, [25, 75]).tolist()
    median = float(np.median(predictions.rmsd[ideal.images]))
    scores["fraction_of_ideal_ca_rmsd"] = _ratio(scores["ideal_ca_rmsd_median"], median)


def _add_neighbours(scores: dict[str, Any], truth: Truth, ideal: IdealObserver) -> None:
    """Take the observer's expected coordinates for latents: what the best of latent spaces would
    score.
    """
    coordinate = truth.coordinate[ideal.images]
    if not (coordinate.std(axis=0) > 0).any() or len(coordinate) <= 2:
        return
    some = sample_images(len(coordinate), 1, seed=0, limit=IMAGES_FOR_NEIGHBOURS)
    expected = _coordinate(truth, ideal)[some]
    scores["ideal_neighbourhood_similarity"] = neighbourhood_similarity(expected, coordinate[some])
    scores["ideal_information_imbalance"] = list(information_imbalance(expected, coordinate[some]))
    scores["fraction_of_ideal_neighbourhood_similarity"] = _ratio(
        scores["neighbourhood_similarity"], scores["ideal_neighbourhood_similarity"]
    )


def _add_distances(
    scores: dict[str, Any],
    truth: Truth,
    distances: Sequence[Distance],
    predictions: Predictions,
    ideal: IdealObserver,
) -> None:
    of_states = measure_all(distances, truth.ca_states)
    true = of_states[truth.state[ideal.images]]
    limits = distance_scores(ideal.expect(of_states), true)
    on_same = distance_scores(predictions.distances[ideal.images], true)
    for entry, limit, same in zip(scores["distances"], limits, on_same, strict=True):
        entry.update({f"ideal_{name}": value for name, value in limit.items()})
        entry["fraction_of_ideal"] = _ratio(same["r"], limit["r"])


def _ratio(value: float, limit: float) -> float:
    return value / limit if limit else float("nan")
