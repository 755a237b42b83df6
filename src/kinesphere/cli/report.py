"""Make the page that shows what a finished run found: RUN/report.html."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from kinesphere import load
from kinesphere.analysis.options import AnalysisSettings
from kinesphere.runtime import console


@dataclass(frozen=True)
class ReportOptions:
    """Options of `kinesphere report`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    beside: Path | None = None
    """Folder of another run on the same particles, as by the other method: shown is how far the two
    agree."""
    settings: tyro.conf.OmitArgPrefixes[AnalysisSettings] = field(default_factory=AnalysisSettings)
    """How finely to analyse; RUN/analysis is written anew, so that the page and the tables
    agree."""


def run(options: ReportOptions) -> None:
    """Analyse the run, write RUN/analysis and RUN/report.html."""
    from kinesphere.analysis.run_agreement import compare_runs
    from kinesphere.analysis.summary import analyse
    from kinesphere.analysis.tables import write_analysis
    from kinesphere.report.page import write_report
    from kinesphere.runs.first_half import one_latent_space

    finished = one_latent_space(load(options.run))
    analysis = analyse(finished, options.settings)
    write_analysis(finished, analysis, options.run / "analysis")
    agreement = None
    if options.beside is not None:
        other = load(options.beside)
        agreement = compare_runs(finished, analysis, other, other.with_model)
    path = write_report(finished, analysis, options.run / "report.html", agreement)
    console.print(f"Open {path} in a browser.", highlight=False)
