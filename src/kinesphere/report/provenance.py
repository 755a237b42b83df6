"""Where a result comes from, which files to open next, and what the page does not show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kinesphere._version import __version__
from kinesphere.analysis.summary import Analysis
from kinesphere.analysis.tables import trajectory_suffix
from kinesphere.report.display import DisplayAtoms
from kinesphere.runs.finished_run import FinishedRun
from kinesphere.runs.halves import FIRST_HALF

FIRST_ROWS = ("command", "method", "versions", "inputs")


def provenance_rows(run: FinishedRun, analysis: Analysis) -> list[list[str]]:
    """Name what identifies the run: command, versions, input files, seed."""
    rows = sorted(_flatten(run.provenance), key=lambda row: _rank(row[0]))
    made = [["report.kinesphere", __version__], ["report.seed", str(analysis.settings.seed)]]
    return [*rows, ["run folder", str(run.path)], *made]


def settings_rows(run: FinishedRun) -> list[list[str]]:
    """Flatten the resolved configuration into dotted names and values."""
    return list(_flatten(run.config))


def files_to_open(run: FinishedRun, analysis: Analysis) -> list[list[str]]:
    """List the files of RUN/analysis worth opening, and what each shows."""
    suffix = trajectory_suffix(run.model)
    walks = [
        [
            f"analysis/pc{k}_trajectory{suffix}",
            f"all atoms along component {k}, {analysis.settings.frames} models",
        ]
        for k in range(1, len(analysis.components.traversals) + 1)
    ]
    return [
        [
            "analysis/open_in_chimerax.cxc",
            "everything below, opened, coloured and playing: start here",
        ],
        [
            "analysis/motion_coloured.cif",
            "the model with each residue’s RMS displacement (Å) in the B-factor column",
        ],
        *walks,
        ["analysis/bodies.csv, segments.csv", "rotations and shifts of every body and segment"],
        [
            "analysis/particles.csv",
            "components, errors and cluster of every particle, by row of the particle file",
        ],
    ]


def caveats(
    run: FinishedRun, analysis: Analysis, drawing_error_angstrom: float, atoms: DisplayAtoms
) -> list[list[str]]:
    """Say what must not be read from the page."""
    error = analysis.ensemble.main_error_angstrom
    thinned = f" Only one residue in {atoms.stride} is drawn." if atoms.stride > 1 else ""
    validation = (
        f"{_half_sentence(run)} Until two are compared, take the motion as a hypothesis: "
        "noise, errors of the poses "
        "and a wrong starting model can all look like motion."
    )
    populations = (
        f"Bars count particles where the noise puts them, each known to about ± {error:.1f} Å "
        "along the main motion. "
        "The line takes that noise out, down to details of about half of it; narrower peaks "
        "stay broader, and what "
        "the model of the motion gets wrong for all particles alike moves peaks. Free energies "
        "should not be read from "
        "either."
    )
    time = (
        "The slider is not time. It orders structures by likeness, from the 5th to the 95th "
        "percentile of a component; "
        "rarer structures lie outside."
    )
    rigid = (
        "Segments move as rigid pieces. What bends within a segment is not seen, and a "
        "boundary is only as sharp as "
        "the motion across it is large; side chains are carried along, not refined."
    )
    exact = (
        f"The viewer draws structures to within {max(drawing_error_angstrom, 0.01):.2f} Å RMS "
        "of the decoded ones; the "
        f"files hold the exact coordinates.{thinned}"
    )
    return [
        ["Validation", validation],
        ["Populations", populations],
        ["Time", time],
        ["Within segments", rigid],
        ["Exact coordinates", exact],
    ]


def _half_sentence(run: FinishedRun) -> str:
    if FIRST_HALF in np.asarray(run.latents.half):
        return f"This page shows half set {FIRST_HALF} and the model trained on it alone."
    return "One model was trained on all images."


def _rank(name: str) -> int:
    head = name.split(".", maxsplit=1)[0]
    return FIRST_ROWS.index(head) if head in FIRST_ROWS else len(FIRST_ROWS)


def _flatten(value: Any, name: str = "") -> Iterator[list[str]]:
    """Give the leaves of nested mappings with dotted names; short sequences stay on one line."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(isinstance(v, Mapping) for v in value)
    ):
        for position, inner in enumerate(value):
            yield from _flatten(inner, f"{name}.{position}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield [name, ", ".join(map(str, value))]
    else:
        yield [name, "" if value is None else str(value)]
