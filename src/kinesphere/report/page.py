"""Puts the page together: one HTML file that needs nothing else, its text and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from kinesphere.analysis.run_agreement import RunAgreement
from kinesphere.analysis.summary import Analysis
from kinesphere.report.evidence import trust_section
from kinesphere.report.payload import payload
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
Document = dict[str, Any]
SWATCHES = 9
LEAST_TURN_DEGREES = 0.05


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


def detail_items(document: Document) -> str:
    """List the sentences on the moving bodies, each with its colour."""
    number_of = {f"Body {group['number']} ": group["number"] for group in document["bodies"]}
    items = []
    for sentence in document["details"]:
        number = next((n for start, n in number_of.items() if sentence.startswith(start)), 1)
        items.append(f"<li>{_swatch(number)}<span>{escape(sentence)}</span></li>")
    return f'<ul class="bodies-list">{"".join(items)}</ul>' if items else ""


def fact_items(facts: Sequence[Document]) -> str:
    """Show the few numbers beside the headline."""
    return "".join(
        f"<div><dt>{escape(fact['label'])}</dt><dd>{escape(fact['value'])}</dd></div>"
        for fact in facts
    )


def bodies_lead(document: Document) -> str:
    """Explain the table of bodies."""
    n_segments = len(document["segments"])
    n_bodies = len(document["bodies"])
    tolerance = document["tolerance"]
    clashes = document["clashes"]
    return (
        f"{n_segments} segments form {n_bodies} {'body' if n_bodies == 1 else 'bodies'}: those "
        "that move against each "
        f"other by less than {tolerance:.1f} Å (RMS) are counted as one. Turns and travels are "
        "5th to 95th percentile "
        "ranges, seen from body 1, the core, held still. Structures have "
        f"{clashes['mean']:.1f} clashes on average "
        "(residues closer than 4 Å that are not neighbours); the input model has "
        f"{clashes['model']}."
    )


def group_table(groups: Sequence[Document], kind: str) -> str:
    """Write the table of bodies or of segments."""
    is_segment = kind == "Segment"
    heads = [kind, *(["Body"] if is_segment else []), "Residues"]
    numbers = ["Size", "Turns", "About axis (x, y, z)", "Travels", "RMS displacement"]
    numbers += ["Turn against previous"] if is_segment else []
    head = "".join(f"<th>{name}</th>" for name in heads) + "".join(
        f'<th class="number">{name}</th>' for name in numbers
    )
    rows = "".join(f"<tr>{_group_cells(group, is_segment=is_segment)}</tr>" for group in groups)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def pairs_table(pairs: Sequence[Sequence[str]], first_class: str, second_class: str) -> str:
    """Write a table of two columns."""
    rows = (
        f'<tr><td class="{first_class}">{escape(first)}</td><td '
        f'class="{second_class}">{escape(second)}</td></tr>'
        for first, second in pairs
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def caveat_items(caveats: Sequence[Sequence[str]]) -> str:
    """List what must not be read from the page: a short name and the reason."""
    return "".join(
        f"<li><strong>{escape(name)}</strong>{escape(reason)}</li>" for name, reason in caveats
    )


def _group_cells(group: Document, *, is_segment: bool) -> str:
    core = not is_segment and group["number"] == 1
    cells = [f"<td>{_swatch(group['body'])}{group['number']}{' (core)' if core else ''}</td>"]
    if is_segment:
        cells.append(f"<td>{group['body']}</td>")
    cells.append(f'<td class="residues">{escape(group["residues"].replace(",", ", "))}</td>')
    turns = group["turn"] >= LEAST_TURN_DEGREES
    axis = ", ".join(_signed(value) for value in group["axis"]) if turns else "–"
    values = [
        str(group["size"]),
        "held still" if core else f"{group['turn']:.1f}°",
        axis,
        "–" if core else f"{group['travel']:.1f} Å",
        f"{group['amplitude']:.1f} Å",
    ]
    if is_segment:
        values.append("–" if group["previous_turn"] is None else f"{group['previous_turn']:.1f}°")
    return "".join(cells) + "".join(f'<td class="number">{value}</td>' for value in values)


def _signed(value: float) -> str:
    """Write a direction cosine with a true minus, and no minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _swatch(body: int) -> str:
    """Give the colour of a body, as the scripts choose it."""
    number = body if body <= SWATCHES else 2 + (body - 2) % (SWATCHES - 1)
    return f'<span class="swatch" style="--swatch:var(--body-{number})"></span>'
