"""The parts of the page that are plain text and tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

Document = dict[str, Any]

SWATCHES = 9
LEAST_TURN_DEGREES = 0.05


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
    n_segments, n_bodies, tolerance = (
        len(document["segments"]),
        len(document["bodies"]),
        document["tolerance"],
    )
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
