"""Score a run against the truth of simulated particles; prints one JSON object."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from kinesphere import load
from kinesphere.cli._score_table import score_table
from kinesphere.evaluation.options import ScoreSettings
from kinesphere.progress_bar import progress_bar
from kinesphere.runtime import console, set_threads

if TYPE_CHECKING:
    from kinesphere.runs.run import Run

_DIGITS = 6


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `kinesphere evaluate`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    truth: Path
    """The truth.npz of the run's particles."""
    model: Path | None = None
    """Atomic model to be carried along and scored: needed for a run that moves pseudo-atoms."""
    settings: tyro.conf.OmitArgPrefixes[ScoreSettings] = field(default_factory=ScoreSettings)
    """What is scored beyond what always is."""
    threads: int | None = None
    """CPU threads; none: all."""


def run(options: EvaluateOptions) -> None:
    """Print the scores as one JSON object on standard output; everything else, a table too, goes to
    standard error.
    """
    from kinesphere.evaluation.embedding import leakage_scores
    from kinesphere.evaluation.scores import score
    from kinesphere.evaluation.truth import read_truth
    from kinesphere.io.structure import read_model

    set_threads(options.threads)
    truth = read_truth(options.truth)
    finished: Run = load(options.run)
    if options.model is not None:
        finished = finished.with_model(read_model(options.model))
    with progress_bar("Ideal observer", None) as advance:
        scores = score(
            finished,
            truth,
            options.settings,
            advance,
        )
    particles, latents = finished.particles, finished.latents
    defocus = 0.5 * (particles.defocus_u_angstrom + particles.defocus_v_angstrom)
    scores |= leakage_scores(latents.mean, latents.half, particles.rotation, defocus)
    if scores["n_residues"] < scores["n_truth_residues"]:
        console.print(
            f"The model has {scores['n_residues']} of the truth's {scores['n_truth_residues']} "
            "residues; "
            "the others are not scored."
        )
    console.print(score_table(scores))
    sys.stdout.write(json.dumps(plain(scores), indent=1, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Turn scores into what JSON can say: numbers rounded to six digits, null for what is not
    defined.
    """
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
