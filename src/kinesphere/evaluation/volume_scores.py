"""Fourier shell correlation of the volume of each image's structure with its true one, as CryoBench
scores maps.

A volume is a Gaussian for every residue that truth and model share, weighted by the residue's
electrons. All Gaussians are alike, so that their width, which both volumes share, drops out of the
correlation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Int
from scipy import fft
from scipy.integrate import trapezoid

from kinesphere.evaluation.observer import IdealObserver
from kinesphere.evaluation.truth import Truth
from kinesphere.runs.halves import images_by_model
from kinesphere.runs.run import Run

_WIDTH_PX = 1.0  # narrow enough to reach Nyquist, wide enough for the grid to hold
_REACH = 5.0  # widths
_IMAGES = 100
_STATES = 100
_BYTES = 1e9


def shell_correlation(
    first: Complex[np.ndarray, "n n half"], second: Complex[np.ndarray, "n n half"]
) -> Float[np.ndarray, " shells"]:
    """Correlate two volumes shell by shell, as CryoBench does.

    Shell s holds the frequencies from s − 1 up to, but not including, s cycles a box, so that the
    first one holds zero frequency; the entry at 0 is 1 by definition, as is a shell in which one of
    the two has no power.

    Parameters
    ----------
    first, second
        (n, n, n // 2 + 1) transforms of real volumes of one size, zero frequency first.

    Returns
    -------
    ndarray
        (n // 2,) at 0, 1/n, 2/n, … cycles a pixel.
    """
    box = len(first)
    along = fft.fftfreq(box, 1.0 / box)
    squared = (
        (along**2)[:, None, None]
        + (along**2)[None, :, None]
        + (np.arange(first.shape[2]) ** 2)[None, None, :]
    )
    shell = np.floor(np.sqrt(squared)).astype(int).ravel() + 1
    weight = np.full(first.shape, 2.0)
    weight[..., 0] = 1.0  # the transform of a real volume repeats all other planes

    def total(values: Float[np.ndarray, "n n half"]) -> Float[np.ndarray, " shells"]:
        return np.bincount(shell, (values * weight).ravel())[: box // 2]

    cross = total((first.conj() * second).real)
    power = total(np.abs(first) ** 2) * total(np.abs(second) ** 2)
    curve = np.divide(cross, np.sqrt(power), out=np.ones_like(cross), where=power > 0)
    curve[0] = 1.0
    return curve


def area_under_fsc(curve: Float[np.ndarray, " shells"], box: int) -> float:
    """Integrate |FSC| over spatial frequency by trapezoids, in 1/px: CryoBench's score of a volume.

    Jeon et al. 2024, arXiv:2408.05526. Two equal volumes score 1/2 − 1/box: the last shell ends
    there.

    Parameters
    ----------
    curve
        (box // 2,) as from `shell_correlation`.
    box
        Voxels along an edge.
    """
    return float(trapezoid(np.abs(curve), dx=1.0 / box))


def residue_volume(
    place_px: Float[np.ndarray, "r 3"], weight: Float[np.ndarray, " r"], box: int
) -> Complex[np.ndarray, "n n half"]:
    """Transform the sum of a Gaussian at every place.

    Parameters
    ----------
    place_px
        (r, 3) xyz in voxels from the first one; what lies outside the box wraps around, as it does
        in images.
    weight
        (r,) what each Gaussian adds up to.
    box
        Voxels along an edge.

    Returns
    -------
    ndarray
        (box, box, box // 2 + 1), indexed [z, y, x], zero frequency first.
    """
    offset = np.arange(-int(np.ceil(_REACH * _WIDTH_PX)), int(np.ceil(_REACH * _WIDTH_PX)) + 1)
    nearest = np.rint(place_px).astype(int)
    voxel = nearest[:, :, None] + offset  # (r, 3, w)
    profile = np.exp(-0.5 * ((voxel - place_px[:, :, None]) / _WIDTH_PX) ** 2)
    profile /= profile.sum(axis=2, keepdims=True)
    x, y, z = np.moveaxis(np.mod(voxel, box), 1, 0)
    value = np.einsum("r,ra,rb,rc->rabc", weight, profile[:, 2], profile[:, 1], profile[:, 0])
    index = (z[:, :, None, None] * box + y[:, None, :, None]) * box + x[:, None, None, :]
    volume = np.bincount(index.ravel(), value.ravel(), minlength=box**3).reshape(box, box, box)
    transform: Complex[np.ndarray, "n n half"] = fft.rfftn(volume)
    return transform


@dataclass(frozen=True)
class VolumeComparison:
    """Compares the volumes of structures, on the residues and the grid of a run.

    Parameters
    ----------
    run, truth
        A run and the truth of its images, on the residues they share.
    rows
        (residues,) rows of those in the run's model.
    """

    run: Run
    truth: Truth
    rows: Int[np.ndarray, " residues"]

    @property
    def box(self) -> int:
        """Voxels along an edge: those of the images of the first optics group."""
        return self.run.particles.optics[0].box_px

    @cached_property
    def _electrons(self) -> Float[np.ndarray, " residues"]:
        model = self.run.model
        electrons = np.bincount(
            model.residue_index, np.maximum(model.atomic_number, 1), minlength=model.n_residues
        )
        return electrons[self.rows].astype(float)

    def volume(self, structure: Float[np.ndarray, "residues 3"]) -> Complex[np.ndarray, "n n half"]:
        """Transform the volume of a structure in Å, in the frame of the model."""
        pixel = self.run.particles.optics[0].pixel_size_angstrom
        place = (structure - self.run.centre_angstrom) / pixel + self.box // 2
        return residue_volume(place.astype(float), self._electrons, self.box)

    def area(
        self, first: Complex[np.ndarray, "n n half"], second: Complex[np.ndarray, "n n half"]
    ) -> float:
        """Area under |FSC| of two volumes in 1/px."""
        return area_under_fsc(shell_correlation(first, second), self.box)

    def some_images(self, among: Int[np.ndarray, " m"]) -> Int[np.ndarray, " k"]:
        """Choose up to 100 images evenly, or as few as can be held in memory at once."""
        number = int(np.clip(_BYTES / (8 * self.box**3), 1, _IMAGES))
        return among[:: max(len(among) // number, 1)][:number]

    def of_images(
        self, images: Int[np.ndarray, " k"]
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Score some images: (k,) areas of the run's structures, and of the model left unmoved,
        with the true ones.
        """
        still = self.volume(self.run.model.centres_angstrom[self.rows])
        areas = np.empty(len(images))
        unmoved = np.empty(len(images))
        for true, which in self._by_state(images):
            unmoved[which] = self.area(true, still)
            for number in which:
                structure = self.run.residues(images[[number]])[0, self.rows]
                areas[number] = self.area(true, self.volume(structure))
        return areas, unmoved

    def of_conformations(self) -> Float[np.ndarray, " conformations"]:
        """Score the image nearest to the mean latent of all images of a state, for up to 100 states
        evenly chosen.

        With half sets each model has a mean of its own.
        """
        latents = self.run.latents
        state = self.truth.state
        shown = np.unique(state)
        chosen = shown[np.linspace(0, len(shown) - 1, min(len(shown), _STATES)).round().astype(int)]
        images = []
        for of_model in images_by_model(latents.half).values():
            for one in chosen:
                members = of_model[state[of_model] == one]
                if len(members):
                    mean = latents.mean[members].astype(np.float64)
                    images.append(members[((mean - mean.mean(axis=0)) ** 2).sum(axis=1).argmin()])
        return self.of_images(np.array(images))[0]

    def of_observer(
        self, ideal: IdealObserver, which: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        """Score the posterior mean volume of some of the ideal observer's images.

        Parameters
        ----------
        ideal
            The ideal observer.
        which
            (k,) positions among its images.
        """
        shape = (len(which), self.box, self.box, self.box // 2 + 1)
        expected = np.zeros(shape, np.complex64)
        posterior = ideal.posterior[which].astype(np.float32)
        for column, state in enumerate(ideal.shown):
            likely = np.flatnonzero(posterior[:, column] > np.finfo(np.float32).eps)
            if len(likely):
                volume = self.volume(self.truth.ca_states[state]).astype(np.complex64)
                for row in likely:
                    expected[row] += posterior[row, column] * volume
        area = np.empty(len(which))
        for true, rows in self._by_state(ideal.images[which]):
            area[rows] = [self.area(true, expected[row].astype(np.complex128)) for row in rows]
        return area

    def _by_state(
        self, images: Int[np.ndarray, " k"]
    ) -> Iterator[tuple[Complex[np.ndarray, "n n half"], Int[np.ndarray, " j"]]]:
        """Volumes of the true states that images show, and which of the images do."""
        state = self.truth.state[images]
        for one in np.unique(state):
            yield self.volume(self.truth.ca_states[one]), np.flatnonzero(state == one)


def fsc_scores(
    run: Run, truth: Truth, rows: Int[np.ndarray, " residues"], ideal: IdealObserver | None
) -> dict[str, Any]:
    """Score the volumes of the run's structures, image by image and state by state.

    Parameters
    ----------
    run
        A finished run.
    truth
        The truth, on the residues it shares with the run's model.
    rows
        (residues,) rows of those residues in the model.
    ideal
        The ideal observer, or none.

    Returns
    -------
    dict
        Areas under |FSC| in 1/px: `fsc_area` and the rest of docs/scores.md.
    """
    comparison = VolumeComparison(run, truth, rows)
    among = np.arange(len(truth.state)) if ideal is None else ideal.images
    which = comparison.some_images(np.arange(len(among)))
    areas, still = comparison.of_images(among[which])
    conformations = comparison.of_conformations()
    scores: dict[str, Any] = {
        "fsc_n": len(which),
        "fsc_area": float(areas.mean()),
        "fsc_area_median": float(np.median(areas)),
        "fsc_area_std": float(areas.std()),
        "still_fsc_area": float(still.mean()),
        "conformation_fsc_area": float(conformations.mean()),
        "conformation_fsc_area_median": float(np.median(conformations)),
        "conformation_fsc_area_std": float(conformations.std()),
    }
    if ideal is not None:
        limit = float(comparison.of_observer(ideal, which).mean())
        scores |= {
            "ideal_fsc_area": limit,
            "fraction_of_ideal_fsc_area": scores["fsc_area"] / limit,
        }
    return scores
