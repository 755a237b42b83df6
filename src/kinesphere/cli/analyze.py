"""Find what moves in a finished run: components, bodies, populations, trajectories."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from kinesphere import load
from kinesphere.analysis.options import AnalysisSettings
from kinesphere.runtime import console


@dataclass(frozen=True)
class AnalyzeOptions:
    """Options of `kinesphere analyze`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    settings: tyro.conf.OmitArgPrefixes[AnalysisSettings] = field(default_factory=AnalysisSettings)
    """How finely to analyse."""


def run(options: AnalyzeOptions) -> None:
    """Write RUN/analysis and say in a few sentences what was found."""
    from kinesphere.analysis.statement import state
    from kinesphere.analysis.summary import analyse
    from kinesphere.analysis.tables import write_analysis
    from kinesphere.runs.first_half import one_latent_space

    finished = one_latent_space(load(options.run))
    analysis = analyse(finished, options.settings)
    script = write_analysis(finished, analysis, options.run / "analysis")
    statement = state(analysis)
    console.print(statement.headline, style="bold", highlight=False)
    for sentence in (*statement.details, statement.certainty):
        console.print(sentence, highlight=False)
    console.print(
        f"Tables and trajectories are in {script.parent}; open {script} in ChimeraX.",
        highlight=False,
    )
