"""Two runs on the same particles, compared image by image: what two methods agree on, neither has
made up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.ensemble import chunks
from kinesphere.analysis.summary import Analysis
from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel
from kinesphere.runs.finished_run import FinishedRun

_IMAGES = 1000
_VARIES_ANGSTROM = 1e-3


@dataclass(frozen=True)
class RunAgreement:
    """The main motion of one run, as both runs see it in every image.

    Parameters
    ----------
    path, method
        Of the other run.
    images
        (m,) rows of the particle set.
    first_angstrom, second_angstrom
        (m,) where each run's structure lies along the first run's main motion, in Å RMS of the
        whole molecule.
    correlation
        Of the two; NaN where either does not vary.
    difference_angstrom
        Median over images of the RMS difference of the two structures, each counted from its mean:
        how far the methods disagree about the motion, wherever they have the molecule on average.
    """

    path: Path
    method: str
    images: Int[np.ndarray, " m"]
    first_angstrom: Float[np.ndarray, " m"]
    second_angstrom: Float[np.ndarray, " m"]
    correlation: float
    difference_angstrom: float


def compare_runs(
    run: FinishedRun,
    analysis: Analysis,
    other: FinishedRun,
    with_model: Callable[[AtomicModel], FinishedRun],
) -> RunAgreement:
    """Compare a run with another one on the same particles.

    Parameters
    ----------
    run, analysis
        The run that is described, and its analysis.
    other
        The other run.
    with_model
        Gives the other run with a model carried along, so that both move the same atoms.

    Returns
    -------
    RunAgreement

    Raises
    ------
    InputError
        If the runs are not of the same particles.
    """
    _require_same_particles(run, other)
    second = with_model(run.model)
    rows = analysis.ensemble.images[:: max(len(analysis.ensemble.images) // _IMAGES, 1)]
    images = np.asarray(run.latents.index)[rows]
    motions = analysis.ensemble.motions
    polymer = np.flatnonzero(run.model.is_polymer)
    kept = polymer if len(polymer) else np.arange(run.model.n_residues)
    places = []
    shapes = []
    for source, chosen in ((run, rows), (second, images)):
        positions = np.concatenate(
            [_centres(source, part) for part in chunks(chosen, run.model.n_atoms)]
        )
        places.append(motions.project(positions)[:, 0])
        shapes.append(positions[:, kept] - positions[:, kept].mean(0))
    difference = np.sqrt(((shapes[0] - shapes[1]) ** 2).sum(2).mean(1))
    return RunAgreement(
        path=other.path,
        method=str(other.provenance.get("method", "other")),
        images=images,
        first_angstrom=places[0],
        second_angstrom=places[1],
        correlation=_correlation(places[0], places[1]),
        difference_angstrom=float(np.median(difference)),
    )


def _centres(run: FinishedRun, images: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m residues 3"]:
    centres: Float[np.ndarray, "m residues 3"] = run.structures(images)[
        :, run.model.centre_atom
    ].astype(np.float32)
    return centres


def _correlation(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " m"]) -> float:
    if min(first.std(), second.std()) < _VARIES_ANGSTROM:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _require_same_particles(run: FinishedRun, other: FinishedRun) -> None:
    """Compare the digests of the particle files, which `run.yaml` records under their names."""
    digests = [
        dict(source.provenance.get("inputs", {})).get(source.config.get("particles", ""))
        for source in (run, other)
    ]
    if digests[0] != digests[1]:
        remedy = "Compare runs on the same particle file"
        raise InputError(other.path, f"is not of the particles of {run.path}", remedy)
