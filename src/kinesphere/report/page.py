"""Puts the page together: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from kinesphere.analysis.run_agreement import RunAgreement
from kinesphere.analysis.summary import Analysis
from kinesphere.report.payload import payload
from kinesphere.report.sections import (
    bodies_lead,
    caveat_items,
    detail_items,
    fact_items,
    group_table,
    pairs_table,
)
from kinesphere.report.trust import trust_section
from kinesphere.runs.finished_run import FinishedRun
from kinesphere.runtime import atomic_write

SCRIPTS = (
    "3Dmol-min.js",
    "core.js",
    "svg.js",
    "viewer.js",
    "scatter.js",
    "histogram.js",
    "sequence.js",
    "evidence.js",
    "training.js",
)


def write_report(
    run: FinishedRun, analysis: Analysis, path: Path, agreement: RunAgreement | None = None
) -> Path:
    """Write the page.

    Parameters
    ----------
    run
        The finished run.
    analysis
        Of the same run.
    path
        The HTML file, replaced as a whole.
    agreement
        What another run on the same particles finds, if there is one.

    Returns
    -------
    Path
        The file.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(assemble(payload(run, analysis, agreement)), encoding="utf-8")
    return path


def assemble(document: dict[str, Any]) -> str:
    """Fill the skeleton with styles, scripts, tables and data."""
    scripts = "\n".join(f"<script>\n{_asset(name)}\n</script>" for name in SCRIPTS)
    return Template(_asset("page.html")).substitute(
        run=escape(document["run"]),
        made=escape(document["made"]),
        version=escape(document["version"]),
        headline=escape(document["headline"]),
        certainty=escape(document["certainty"]),
        details=detail_items(document),
        facts=fact_items(document["facts"]),
        bodies_lead=escape(bodies_lead(document)),
        bodies_table=group_table(document["bodies"], "Body"),
        segments_table=group_table(document["segments"], "Segment"),
        n_segments=len(document["segments"]),
        sharpness=escape(document["sharpness"]["sentence"] if document["sharpness"] else ""),
        trust=trust_section(document["trust"], document["run"]),
        agreement=escape(document["agreement"]["sentence"] if document["agreement"] else ""),
        files_table=pairs_table(document["files"], "path", "note-cell"),
        caveats=caveat_items(document["caveats"]),
        provenance_table=pairs_table(document["provenance"], "key", "value"),
        settings_table=pairs_table(document["settings"], "key", "value"),
        style=_asset("style.css"),
        scripts=scripts,
        data=script_safe(
            json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        ),
    )


def script_safe(text: str) -> str:
    """Keep JSON from ending the script element that holds it: names of files may contain
    anything.
    """
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files("kinesphere.report").joinpath("assets", name).read_text(encoding="utf-8")
