"""Errors of displacements: for every image and residue, how far it moved and how well that is
known.

Three things make a displacement uncertain, and add up as variances:

1. the noise of the image, which leaves a posterior over the latents: exact, and carried through the
decoder; 2. the images that happened to train the decoder: what two half-set models disagree about
(`runs.half_errors`); 3. the model: a molecule does not follow rigid segments, or a smooth
field, to the letter. No run can see this from
   within, so each motion model states a fraction of the motion itself (`motion.base.Unmodelled`,
   docs/errors.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from scipy.stats import norm

from kinesphere.analysis.ensemble import chunks, sample_images
from kinesphere.analysis.latent import standard_steps
from kinesphere.errors import InputError
from kinesphere.runs.half_errors import DISPLACEMENT_ERRORS_FILE
from kinesphere.runs.halves import images_by_model
from kinesphere.runs.run import Run

_IMAGES_FOR_DIRECTIONS = 500


@dataclass(frozen=True)
class DisplacementErrors:
    """Displacements, and the parts of their errors along each residue's own main direction of
    motion.

    Parameters
    ----------
    images
        (m,) rows of the particle set.
    direction
        (r, 3) unit vectors.
    displacement
        (m, r, 3) Å from the mean of the run's structures (of the image's half set, where two models
        were trained).
    posterior
        (m, r) Å, standard deviation that the image's noise leaves.
    amplitude
        (r,) Å, RMS displacement.
    training
        (r,) Å, what two half-set models disagree about; zero where one model was trained.
    model
        (r,) Å, how far molecules stray from such a motion model.
    """

    images: Int[np.ndarray, " m"]
    direction: Float[np.ndarray, "r 3"]
    displacement: Float[np.ndarray, "m r 3"]
    posterior: Float[np.ndarray, "m r"]
    amplitude: Float[np.ndarray, " r"]
    training: Float[np.ndarray, " r"]
    model: Float[np.ndarray, " r"]

    @property
    def along(self) -> Float[np.ndarray, "m r"]:
        """Component in Å of each displacement along its residue's main direction: what the errors
        are those of.
        """
        return _along(self.displacement, self.direction)

    @property
    def total(self) -> Float[np.ndarray, "m r"]:
        """Standard deviation in Å of everything together."""
        result: Float[np.ndarray, "m r"] = np.sqrt(
            self.posterior**2 + self.training**2 + self.model**2
        )
        return result

    def of(self, rows: Int[np.ndarray, " s"]) -> DisplacementErrors:
        """Give those of some residues."""
        per_image = {name: getattr(self, name)[:, rows] for name in ("displacement", "posterior")}
        per_residue = {
            name: getattr(self, name)[rows]
            for name in ("direction", "amplitude", "training", "model")
        }
        return replace(self, **per_image, **per_residue)

    def covered(
        self, truth: Float[np.ndarray, "m r"], probability: float
    ) -> Float[np.ndarray, " r"]:
        """Find the part of the images, for each residue, whose true displacement lies in the
        central interval.
        """
        reach = norm.ppf(0.5 + 0.5 * probability) * self.total
        return np.mean(np.abs(truth - self.along) <= reach, axis=0)


@dataclass(frozen=True)
class MainDirections:
    """How each residue moves among the images of one half set (or of all).

    Parameters
    ----------
    mean
        (r, 3) mean position in Å.
    direction
        (r, 3) unit vector along which it moves most.
    amplitude
        (r,) RMS displacement along it in Å.
    """

    mean: Float[np.ndarray, "r 3"]
    direction: Float[np.ndarray, "r 3"]
    amplitude: Float[np.ndarray, " r"]

    @classmethod
    def of(cls, positions: Float[np.ndarray, "m r 3"]) -> MainDirections:
        """Find them from structures in one frame."""
        mean = positions.mean(axis=0, dtype=np.float64)
        deviation = positions - mean
        variance, axes = np.linalg.eigh(
            np.einsum("mri,mrj->rij", deviation, deviation) / len(positions)
        )
        return cls(mean, axes[:, :, 2], np.sqrt(variance[:, 2].clip(0.0)))


@dataclass(frozen=True)
class ErrorMeter:
    """What the images of a run are measured against: found once, after which images come in any
    number and order.

    Parameters
    ----------
    run
        A finished run; of two half-set models each image is measured by its own.
    directions
        By half set: how its residues move. Errors are along the directions of the first, so that
        signs agree.
    training
        (r,) Å, as `training_errors` gives it.
    """

    run: Run
    directions: Mapping[int, MainDirections]
    training: Float[np.ndarray, " r"]

    @classmethod
    def of(cls, run: Run) -> ErrorMeter:
        """Find the mean structure and the main directions from a sample of the images."""
        directions = {
            model: _directions(run, images)
            for model, images in images_by_model(run.latents.half).items()
        }
        return cls(run, directions, training_errors(run))

    @property
    def first(self) -> MainDirections:
        """Those of the first half set."""
        return next(iter(self.directions.values()))

    @property
    def model(self) -> Float[np.ndarray, " r"]:
        """How far molecules stray from such a motion model, in Å."""
        unmodelled = self.run.unmodelled
        result: Float[np.ndarray, " r"] = np.hypot(
            unmodelled.residue_fraction * self.first.amplitude, unmodelled.floor_angstrom
        )
        return result

    def displacements(self, images: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m r 3"]:
        """Find how far the residues of some images are, in Å, from the mean structure of their half
        set.
        """
        moved = self.run.residues(images)
        half = self.run.latents.half[images]
        for label, directions in self.directions.items():
            moved[half == label] -= directions.mean
        return moved

    def measure(self, images: Int[np.ndarray, " m"]) -> DisplacementErrors:
        """Find the displacements of some images, (m,) rows of the particle set, with their
        errors.
        """
        return DisplacementErrors(
            images=images,
            direction=self.first.direction,
            displacement=self.displacements(images),
            posterior=self._posterior(images),
            amplitude=self.first.amplitude,
            training=self.training,
            model=self.model,
        )

    def _posterior(self, images: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m r"]:
        run = self.run
        n_residues = self.run.model.n_residues
        steps = standard_steps(run.latents.covariance[images])
        result = np.empty((len(images), n_residues))
        for model, of_model in images_by_model(run.latents.half[images]).items():
            for rows in chunks(of_model, n_residues * (1 + 2 * steps.shape[1])):
                centre = run.latents.mean[images[rows]].astype(np.float64)
                result[rows] = _posterior_spread(
                    run, centre, steps[rows], model, self.first.direction
                )
        return result


def displacement_errors(run: Run, images: Int[np.ndarray, " m"]) -> DisplacementErrors:
    """Measure how far every residue moved in some images, and how well that is known.

    Parameters
    ----------
    run
        A finished run; of two half-set models each image is measured by its own.
    images
        (m,) rows of the particle set.

    Returns
    -------
    DisplacementErrors
        Directions are those of the first half set, so that signs agree between the two.
    """
    return ErrorMeter.of(run).measure(images)


def require_latent_errors(run: Run) -> None:
    """Refuse a run whose latents come without errors, from which none of a displacement follow.

    Raises
    ------
    InputError
        If a covariance is not finite, or all of them are zero.
    """
    covariance = run.latents.covariance
    path = run.path / "latents.npz"
    remedy = "Train the run again, or do without errors"
    unknown = np.flatnonzero(~np.isfinite(covariance).all(axis=(1, 2)))
    if unknown.size:
        particle = int(run.latents.index[unknown[0]])
        raise InputError(path, f"the covariance of particle {particle} is not finite", remedy)
    if not covariance.any():
        raise InputError(
            path, "the covariance is zero throughout: displacements have no errors", remedy
        )


def training_errors(run: Run) -> Float[np.ndarray, " r"]:
    """Read what two half-set models disagree about, for each residue.

    Parameters
    ----------
    run
        A finished run.

    Returns
    -------
    ndarray
        (r,) RMS in Å of one model: 1/√2 of the difference, at the nearest Gaussian. Zero where
        nothing was measured.
    """
    path = run.path / DISPLACEMENT_ERRORS_FILE
    if not path.is_file():
        return np.zeros(run.model.n_residues)
    with np.load(path) as errors:
        of_bead = np.sqrt((errors["error_angstrom"].astype(np.float64) ** 2).mean(axis=0) / 2.0)
    beads = run.reference.beads.numpy() + run.centre_angstrom
    result: Float[np.ndarray, " r"] = of_bead[cKDTree(beads).query(run.model.centres_angstrom)[1]]
    return result


def _directions(run: Run, rows: Int[np.ndarray, " n"]) -> MainDirections:
    some = rows[
        sample_images(len(rows), run.model.n_residues, seed=0, limit=_IMAGES_FOR_DIRECTIONS)
    ]
    return MainDirections.of(run.residues(some))


def _along(
    moved: Float[np.ndarray, "m r 3"], direction: Float[np.ndarray, "r 3"]
) -> Float[np.ndarray, "m r"]:
    result: Float[np.ndarray, "m r"] = np.einsum("mrx,rx->mr", moved, direction)
    return result


def _posterior_spread(
    run: Run,
    centre: Float[np.ndarray, "m d"],
    steps: Float[np.ndarray, "m d d"],
    half: int,
    direction: Float[np.ndarray, "r 3"],
) -> Float[np.ndarray, "m r"]:
    """Carry each posterior through the decoder: half the way between one standard deviation up and
    down each axis.
    """
    variance = np.zeros((len(centre), run.model.n_residues))
    for step in np.moveaxis(steps, 2, 0):
        up, down = run.decode(centre + step, half), run.decode(centre - step, half)
        variance += _along(0.5 * (up - down), direction) ** 2
    return np.sqrt(variance)
