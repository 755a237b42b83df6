"""The page of results: one HTML file with plots and tables, made from the committed CSV files and
nothing else.

    python benchmarks/page.py

Writes results/index.html. A section whose table is not there is left out; tables that have no
section of their own are listed at the end. Every section names the command that made its figures.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from bench import RESULTS, Row, show
from charts import DotRow, Series, dot_rows, legend, lines
from speed.scaling import findings, fitted

HERE = Path(__file__).parent
MACHINE = "2 cores x86_64, one thread"
NAMES = {
    "cryosphere": "cryoSPHERE",
    "dynamight": "DynaMight",
    "cryodrgn": "cryoDRGN",
    "cryostar": "cryoSTAR",
    "adk": "adenylate kinase",
    "igg": "antibody",
    "null": "static complex",
}
PHASES = {
    "observe": "preparing images",
    "segments": "training, segments",
    "field": "training, field",
    "infer": "latents",
    "reconstruct": "reconstruction",
}
AXES = {
    "box": "box, px",
    "points": "residues or Gaussians",
    "images": "images",
    "batch": "images a step",
}


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    key, title
        Anchor and heading.
    lead
        What is shown, in a sentence or two.
    command
        What made the figures.
    tables
        Names of the CSV files it is made from, the first of which must be there.
    draw
        From the rows of those files to HTML.
    """

    key: str
    title: str
    lead: str
    command: str
    tables: tuple[str, ...]
    draw: Callable[..., str]


def read(path: Path) -> list[Row]:
    """Read a CSV file, numbers as numbers and empty cells as None; no rows where there is no
    file.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def named(name: object) -> str:
    """Give a name as it is written in prose."""
    return NAMES.get(str(name), str(name))


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[object, ...], list[Row]]:
    """Group rows by some columns, in the order in which they first occur."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def column(rows: Iterable[Row], key: str) -> list[float]:
    """Take the numbers of a column; what is missing is NaN."""
    return [float("nan") if row.get(key) is None else float(row[key]) for row in rows]


def written(value: object) -> str:
    """Write a value to three digits, thousands apart; what is missing as a dash."""
    if isinstance(value, int) or (isinstance(value, float) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) and np.isfinite(value) else show(value)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write an HTML table; columns of numbers to the right."""
    is_number = [any(isinstance(row[n], (int, float)) for row in rows) for n in range(len(heads))]
    kind = [' class="number"' if number else "" for number in is_number]
    head = "".join(f"<th{k}>{escape(word)}</th>" for k, word in zip(kind, heads, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{k}>{escape(written(v))}</td>" for k, v in zip(kind, row, strict=True))
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def peers(rows: Sequence[Row]) -> str:
    """Ratios to other programs, pair by pair."""
    run = [row for row in rows if not row.get("not_run")]
    dots, entries = [], []
    for (task, box, peer, ours), group in grouped(run, "task", "box", "peer", "kinesphere").items():
        points = f"{group[0]['points']:,} {'residues' if task == 'segments' else 'Gaussians'}"
        is_default = ours == "default"
        dots.append(
            DotRow(
                named(peer),
                f"{task}, {box} px, {points}",
                column(group, "ratio"),
                2 if is_default else 1,
            )
        )
        middle = [_median(column(group, key)) for key in _PEER_NUMBERS]
        entries.append([named(peer), task, box, group[0]["points"], ours, *middle, len(group)])
    heads = (
        "program",
        "task",
        "px",
        "size",
        "kinesphere",
        "its images/s",
        "images/s",
        "ratio",
        "its GB",
        "GB",
        "pairs",
    )
    plot = dot_rows(dots, (1, 10, 100, 1000), "×") if dots else ""
    colours = legend(
        (("kinesphere as it comes", 2), ("kinesphere with an encoder, on the whole image", 1))
    )
    missing = grouped((row for row in rows if row.get("not_run")), "case", "not_run")
    notes = "".join(
        f"<li>not run: {escape(str(case))}: {escape(str(why))}</li>" for case, why in missing
    )
    listed = f'<ul class="missing">{notes}</ul>' if notes else ""
    return f"{colours}{plot}{table(heads, entries) if entries else ''}{listed}"


_PEER_NUMBERS = ("peer_images_per_second", "images_per_second", "ratio", "peer_peak_gb", "peak_gb")


def scaling(rows: Sequence[Row]) -> str:
    """Speed and memory against every size, and fitted exponents."""
    colours = {phase: number for number, phase in enumerate(PHASES, start=1)}
    plots = []
    for key, title, is_log in (
        ("images_per_second", "Images a CPU-second", True),
        ("peak_gb", "Peak memory, GB", False),
    ):
        for axis, label in AXES.items():
            along = grouped((row for row in rows if row["axis"] == axis), "phase")
            drawn = [
                Series(
                    PHASES[str(phase)],
                    colours[str(phase)],
                    column(group, "size"),
                    column(group, key),
                )
                for (phase,), group in along.items()
            ]
            ticks = sorted({x for line in drawn for x in line.x})
            plots.append(lines(drawn, title, label, x_ticks=ticks, y_is_log=is_log))
    heads = ("phase", "against", "from", "to", "CPU exponent", "GB at the start", "GB at the end")
    keys = ("from", "to", "cpu_exponent", "memory_from_gb", "memory_to_gb")
    entries = [
        [PHASES[f["phase"]], AXES[f["axis"]], *(f[key] for key in keys)] for f in fitted(rows)
    ]
    colour_names = legend([(PHASES[phase], colours[phase]) for phase in PHASES])
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings(rows))
    entries_table = f'{table(heads, entries)}<ul class="said">{said}</ul>'
    return f'{colour_names}<div class="plots">{"".join(plots)}</div>{entries_table}'


def throughput(rows: Sequence[Row], gpu: Sequence[Row]) -> str:
    """Training speed on random images, on the CPU and on a GPU."""
    heads = ("method", "size", "px", "batch", "shells", "inference", "images/s", "GB")
    keys = (
        "method",
        "points",
        "box",
        "batch",
        "shells",
        "inference",
        "images_per_second",
        "peak_memory_gb",
    )
    parts = [table(heads, [[row.get(key) for key in keys] for row in rows])]
    if gpu:
        parts.append("<h3>On one NVIDIA H200</h3>")
        parts.append(table(heads, [[row.get(key) for key in keys] for row in gpu]))
    return "".join(parts)


def accuracy(rows: Sequence[Row]) -> str:
    """Scores against the truth, medians over seeds, beside the ideal observer's."""
    keys = (
        "rmsd_ratio",
        "r_main_motion",
        "ideal_r_main_motion",
        "amplitude_main_motion",
        "motion_spread_median",
    )
    entries = []
    for (data, method), group in grouped(rows, "data", "method").items():
        values = [_median(column(group, key)) for key in keys]
        entries.append(
            [named(data), method, len(group), *(None if np.isnan(v) else v for v in values)]
        )
    heads = (
        "data",
        "method",
        "seeds",
        "Cα RMSD / not moving",
        "r, main motion",
        "r, ideal observer",
        "spread / true",
    )
    return table((*heads, "spread, Å"), entries)


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def noise(rows: Sequence[Row], antibody: Sequence[Row]) -> str:
    """Correlation with the truth against the signal-to-noise ratio."""
    plots = []
    for title, some in (("adenylate kinase", rows), ("antibody", antibody)):
        drawn = [_against_noise("ideal observer", 6, some, "ideal_r_main_motion")]
        for number, ((method,), group) in enumerate(grouped(some, "method").items(), start=1):
            drawn.append(
                _against_noise(
                    _METHODS.get(str(method), str(method)), 3 - number, group, "r_main_motion"
                )
            )
        plots.append(
            lines(
                drawn, f"r with the true motion, {title}", "signal-to-noise ratio", y_is_log=False
            )
        )
    names = legend(
        (("marginal likelihood", 2), ("encoder (VAE)", 1), ("ideal observer: the limit", 6))
    )
    return f'{names}<div class="plots">{"".join(plots)}</div>'


_METHODS = {"marginal": "marginal likelihood", "vae": "encoder (VAE)"}


def _against_noise(name: str, colour: int, rows: Sequence[Row], key: str) -> Series:
    by_snr = grouped(rows, "snr")
    levels = sorted(by_snr, key=lambda snr: float(str(snr[0])))
    middle = [_median(column(by_snr[snr], key)) for snr in levels]
    return Series(
        name, colour, [float(str(snr[0])) for snr in levels], middle, is_dashed=colour == 6
    )


def reconstruction(rows: Sequence[Row], speed: Sequence[Row]) -> str:
    """How near the maps are to the truth where the molecule moves, and how fast they come."""
    keys = ("map", "moving", "gap_closed", "moving_third", "moving_half", "resolution")
    heads = (
        "map",
        "FSC, moving part",
        "gap closed",
        "at 1/3 Nyquist",
        "at 1/2 Nyquist",
        "resolution, Å",
    )
    parts = []
    for (data, run), group in grouped(rows, "data", "run").items():
        parts.append(f"<h3>{escape(named(data))}, {escape(str(run).split('-')[1])}</h3>")
        parts.append(table(heads, [[row.get(key) for key in keys] for row in group]))
    if speed:
        parts.append("<h3>Speed of deformed backprojection</h3>")
        columns = ("data", "box", "voxels", "nodes", "images_per_second")
        parts.append(
            table((*columns[:-1], "images/s"), [[row.get(key) for key in columns] for row in speed])
        )
    return "".join(parts)


def validation(rows: Sequence[Row]) -> str:
    """Verdicts: is the motion more than noise?"""
    keys = (
        "method",
        "verdict",
        "gain",
        "permuted_largest",
        "phase_randomised_largest",
        "shuffled_poses_largest",
    )
    heads = (
        "data",
        "method",
        "verdict",
        "gain, nats",
        "latents permuted",
        "phases random",
        "poses shuffled",
    )
    return table(heads, [[named(row["data"]), *(row.get(key) for key in keys)] for row in rows])


SECTIONS = (
    Section(
        "peers",
        "Beside other programs",
        "The same particles, one thread each, every program in its own environment. Each dot "
        "is the ratio of images a "
        "CPU-second in one pair of runs that took turns; above ×1 kinesphere is the faster one.",
        "make bench-peers",
        ("peers",),
        peers,
    ),
    Section(
        "scaling",
        "How cost grows",
        "Each point is a process of its own. The cost of an image should grow no faster than "
        "the molecule, that of a "
        "pass as the images do (exponent 1), and memory should not grow with the number of "
        "images. Exponents p are of "
        "cost ∝ sizeᵖ: of an image along box and residues, of a pass along images, of a step "
        "along batch.",
        "python benchmarks/speed/scaling.py",
        ("scaling",),
        scaling,
    ),
    Section(
        "throughput",
        "Training speed",
        "Images a CPU-second on images of noise, on which marginal inference is at its "
        "slowest, at 5 Å (fewer shells) "
        "and on the whole image.",
        "python benchmarks/speed/throughput.py",
        ("throughput", "throughput_gpu"),
        throughput,
    ),
    Section(
        "accuracy",
        "How near the truth",
        "Simulated particles with known motion, options left as they are, medians over seeds. "
        "The ideal observer knows "
        "the true states and lacks only which of them an image shows: no method can do better.",
        "python benchmarks/accuracy/accuracy.py",
        ("accuracy",),
        accuracy,
    ),
    Section(
        "noise",
        "What the noise leaves",
        "Correlation of the recovered with the true main motion as the images get noisier; "
        "medians over seeds.",
        "python benchmarks/accuracy/snr_series.py",
        ("snr_series", "snr_series_igg"),
        noise,
    ),
    Section(
        "reconstruction",
        "What the motion brings to a map",
        "Fourier shell correlation with the true map within the moving part. The oracle knows "
        "the true motion.",
        "python benchmarks/accuracy/reconstruction.py",
        ("reconstruction", "reconstruction_speed"),
        reconstruction,
    ),
    Section(
        "validation",
        "Is the motion more than noise?",
        "Gain in log-likelihood of an image on Fourier coefficients held out, and the largest "
        "that controls reach.",
        "python benchmarks/accuracy/validation.py",
        ("validation",),
        validation,
    ),
)


def others(results: Path) -> str:
    """List the tables that no section shows, folded."""
    shown = {name for section in SECTIONS for name in section.tables}
    parts = []
    for path in sorted(results.glob("*.csv")):
        rows = read(path)
        if path.stem not in shown and rows:
            heads = list(rows[0])
            body = table(
                [head.replace("_", " ") for head in heads],
                [[row[head] for head in heads] for row in rows],
            )
            parts.append(
                f"<details><summary>{escape(path.stem.replace('_', ' '))}</summary>{body}</details>"
            )
    return "".join(parts)


def page(results: Path = RESULTS) -> str:
    """Compose the page from a folder of tables."""
    parts, links = [], []
    for section in SECTIONS:
        rows = [read(results / f"{name}.csv") for name in section.tables]
        if not rows[0]:
            continue
        links.append(f'<a href="#{section.key}">{section.title}</a>')
        command = f'<p class="command"><code>{escape(section.command)}</code></p>'
        body = f'<div class="card">{section.draw(*rows)}{command}</div>'
        parts.append(
            f'<section id="{section.key}"><h2>{section.title}</h2>'
            f"<p>{section.lead}</p>{body}</section>"
        )
    if rest := others(results):
        links.append('<a href="#others">Other tables</a>')
        parts.append(
            f'<section id="others"><h2>Other tables</h2><div class="card">{rest}</div></section>'
        )
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>kinesphere: "
        f"benchmarks</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<header>"
        '<div class="wordmark">kinesphere</div><h1>How fast, how far it scales, and how near '
        "the truth</h1>"
        f'<p class="lead">Measured on {MACHINE}, in CPU-seconds, unless a section says otherwise. '
        "Below each figure stands the command that made it.</p>"
        f"<nav>{''.join(links)}</nav></header>\n{chr(10).join(parts)}\n</main>\n"
        "<footer>Made by <code>python benchmarks/page.py</code> from the CSV files beside this "
        "page. "
        "What is measured, and how: <code>benchmarks/README.md</code>.</footer>\n</body>\n</html>\n"
    )


if __name__ == "__main__":
    (RESULTS / "index.html").write_text(page(), encoding="utf-8")
    print(RESULTS / "index.html")
