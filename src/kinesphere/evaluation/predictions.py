"""Everything the scores need of a run's structures, image by image, without holding all structures
at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.ensemble import chunks, errors_along
from kinesphere.evaluation.distances import Distance, measure_all
from kinesphere.evaluation.metrics import MainMotion, nearest_state, rmsd, superposed_rmsd
from kinesphere.evaluation.truth import Truth
from kinesphere.runs.halves import images_by_model
from kinesphere.runs.run import Run


@dataclass(frozen=True)
class Predictions:
    """What a run says of each image, measured on the residues it shares with the truth; lengths in
    Å.

    Parameters
    ----------
    rmsd, superposed_rmsd
        (n,) distance to the true structure, in place and after superposition.
    moved, spread
        (n,) distance to the nominal model and to the mean of the run's structures.
    coordinate
        (n, k) coordinate of the true state that is nearest to each structure.
    main_motion
        (n,) position along the true main motion.
    distances
        (n, n_distances).
    """

    rmsd: Float[np.ndarray, " n"]
    superposed_rmsd: Float[np.ndarray, " n"]
    moved: Float[np.ndarray, " n"]
    spread: Float[np.ndarray, " n"]
    coordinate: Float[np.ndarray, "n k"]
    main_motion: Float[np.ndarray, " n"]
    distances: Float[np.ndarray, "n distances"]


def predict(
    run: Run,
    truth: Truth,
    rows: Int[np.ndarray, " residues"],
    motion: MainMotion,
    distances: Sequence[Distance],
) -> Predictions:
    """Measure the run's structure of every image.

    Parameters
    ----------
    run
        A finished run.
    truth
        The truth, on the residues it shares with the run's model.
    rows
        (n_residues,) rows of those residues in the model.
    motion
        The true main motion.
    distances
        Distances to measure.

    Returns
    -------
    Predictions
        One row an image.
    """
    nominal = run.model.centres_angstrom[rows]
    known = np.flatnonzero(np.isfinite(truth.state_coordinate).all(axis=1))
    mean = sum(
        (structures.sum(axis=0) for _, structures in _structures(run, rows)), np.zeros_like(nominal)
    )
    mean /= len(truth.state)

    def measure(
        images: Int[np.ndarray, " c"], structures: Float[np.ndarray, "c residues 3"]
    ) -> Predictions:
        true = truth.ca_states[truth.state[images]]
        return Predictions(
            rmsd=rmsd(structures, true),
            superposed_rmsd=superposed_rmsd(structures, true),
            moved=rmsd(structures, nominal),
            spread=rmsd(structures, mean),
            coordinate=truth.state_coordinate[
                known[nearest_state(structures, truth.ca_states[known])]
            ],
            main_motion=motion.project(structures),
            distances=measure_all(distances, structures),
        )

    parts = [measure(images, structures) for images, structures in _structures(run, rows)]
    names = [field.name for field in fields(Predictions)]
    return Predictions(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def main_motion_errors(
    run: Run, rows: Int[np.ndarray, " residues"], motion: MainMotion, images: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Carry the latent posterior of some images over to the true main motion.

    Parameters
    ----------
    run, rows, motion
        As for `predict`.
    images
        (m,) rows of the particle set.

    Returns
    -------
    ndarray
        (m,) standard deviations in Å RMS.
    """
    latents = run.latents
    errors = np.empty(len(images))
    for model, of_model in images_by_model(latents.half[images]).items():

        def place(z: Float[np.ndarray, "c d"], model: int = model) -> Float[np.ndarray, " c"]:
            return motion.project(run.decode(z, model)[:, rows])

        for part in chunks(of_model, run.model.n_residues):
            mean = latents.mean[images[part]].astype(np.float64)
            errors[part] = errors_along(place, mean, latents.covariance[images[part]])
    return errors


def _structures(
    run: Run, rows: Int[np.ndarray, " residues"]
) -> Iterator[tuple[Int[np.ndarray, " c"], Float[np.ndarray, "c residues 3"]]]:
    """Images and their residue centres, in chunks, every image once and in order."""
    for images in chunks(np.arange(len(run.latents.index)), run.model.n_residues):
        yield images, run.residues(images)[:, rows]
