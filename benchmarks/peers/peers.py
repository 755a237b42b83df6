"""How fast cryoSPHERE, DynaMight, cryoDRGN and cryoSTAR are on the same particles, and kinesphere
beside them.

    python benchmarks/peers/peers.py --work /tmp/peers \
        --python cryosphere=/tmp/cryosphere/bin/python dynamight=/tmp/dynamight/bin/python

Every program runs in its own environment (README.md says how to make one), on one CPU thread, for a
short and for a longer time. What the longer run takes more in CPU-seconds went into the images it
has worked on more: start-up cancels out. The runs of a pair take turns, so that both meet the same
load, and each pair gives one ratio. Writes results/peers.csv (every pair) and peers.md (medians). A
program that is not there, or fails, is listed as not run, with the reason.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from cases import CASES, Case, Runner, prepare_peer, runners_of_kinesphere
from data import make_large, make_small

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py and process.py
from bench import RESULTS, Row, markdown, show, write_csv
from process import ProcessError, Used, measure, rate

COLUMNS = (
    "task",
    "box",
    "points",
    "peer",
    "peer_images_per_second",
    "kinesphere",
    "images_per_second",
    "ratio",
    "range",
)
COLUMNS += ("rounds",)
MEMORY_COLUMNS = ("task", "box", "points", "peer", "peer_peak_gb", "kinesphere", "peak_gb")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Options:
    """Which programs, where, and how often."""

    work: Path = Path("/tmp/kinesphere-peers")  # noqa: S108 - a folder to find again
    """Where particles, runs and logs are kept; particles are made once."""
    python: tuple[str, ...] = ()
    """Python of each program's environment, as NAME=PATH; names: cryosphere, dynamight, cryodrgn,
    cryostar."""
    cases: tuple[str, ...] = ()
    """Names of the cases, as in the first column of peers.csv; none: all."""
    rounds: int = 3
    """Pairs of each case."""
    keep: bool = False
    """Add to the pairs that the tables hold already, instead of replacing them."""
    name: str = "peers"
    """Name of the tables."""


def main(options: Options) -> None:
    """Measure every case once a round; the tables are rewritten after each pair."""
    data = {"small": make_small(options.work / "data" / "small", 2000)}
    data["large"] = make_large(options.work / "data" / "large", 512)
    chosen = [case for case in CASES if not options.cases or case.name in options.cases]
    table = RESULTS / f"{options.name}.csv"
    rows = remaining(read_rows(table), {case.name for case in chosen}, keep=options.keep)
    given = environments(options.python)
    for _ in range(options.rounds):
        for case in chosen:
            rows += measure_case(case, given.get(case.peer), data[case.data], options.work)
            rows = in_order(rows)
            write_csv(table, rows)
            table.with_suffix(".md").write_text(describe(rows), encoding="utf-8")
    print(describe(rows))


def remaining(rows: Sequence[Row], names: set[str], *, keep: bool) -> list[Row]:
    """Keep the rows of cases that are not measured now; with `keep`, also the pairs of those that
    are.
    """
    return [row for row in rows if row["case"] not in names or (keep and not row.get("not_run"))]


def read_rows(path: Path) -> list[Row]:
    """Read a table of this script, numbers as numbers."""
    import csv

    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> object:
    try:
        return float(text) if "." in text or "e" in text else int(text)
    except ValueError:
        return text or None


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Sort rows as the cases are listed; a case that was not run is told once."""
    order = [case.name for case in CASES]
    once = {tuple(sorted((key, str(value)) for key, value in row.items())): row for row in rows}
    return sorted(once.values(), key=lambda row: order.index(row["case"]))


def measure_case(case: Case, python: Path | None, data: Path, work: Path) -> list[Row]:
    """Measure one pair of a case; one row that says why where that is not possible."""
    label: Row = {
        "case": case.name,
        "task": case.task,
        "box": case.box,
        "points": case.points,
        "peer": case.peer,
    }
    try:
        python = existing(python)
        label |= {"peer_version": version_of(python, case.package)}
        prepare_peer(case, python, data, work)
        peer = case.runner(python, data, work)
        return [
            {**label, **row} for row in pair(peer, runners_of_kinesphere(case, data, work), work)
        ]
    except ProcessError as error:
        print(f"{case.name}: not run: {error}", flush=True)
        return [{**label, "not_run": str(error)}]


def environments(words: Sequence[str]) -> dict[str, Path]:
    """Read NAME=PATH."""
    named = dict(word.partition("=")[::2] for word in words)
    unknown = set(named) - {case.peer for case in CASES}
    if unknown:
        raise SystemExit(
            f"--python {' '.join(sorted(unknown))}: no such program is compared; give NAME=PATH"
        )
    return {name: Path(path) for name, path in named.items()}


def existing(python: Path | None) -> Path:
    """Insist on an environment."""
    if python is None:
        raise ProcessError("no environment given")
    return python


def version_of(python: Path, package: str) -> str:
    """Ask an environment for the version of a package."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ProcessError(f"{package} is not installed for {python.name}") from error
    return found.stdout.strip()


def pair(peer: Runner, ours: Sequence[Runner], work: Path) -> Iterator[Row]:
    """Let the programs take turns: all short runs, then all long ones."""
    short = [run(runner, runner.short, work) for runner in (peer, *ours)]
    long = [run(runner, runner.long, work) for runner in (peer, *ours)]
    rates = [
        rate(a, b, (runner.long - runner.short) * runner.images)
        for runner, a, b in zip((peer, *ours), short, long, strict=True)
    ]
    for runner, speed, used in zip(ours, rates[1:], long[1:], strict=True):
        ratio = speed / rates[0]
        against = f"{peer.name} {show(rates[0])}, kinesphere {show(speed)} images/s"
        print(f"{runner.name}: {against}: × {show(ratio)}", flush=True)
        yield {
            "kinesphere": runner.name,
            "peer_images_per_second": rates[0],
            "images_per_second": speed,
            "ratio": ratio,
            "peer_peak_gb": long[0].peak_gb,
            "peak_gb": used.peak_gb,
        }


def run(runner: Runner, length: int, work: Path) -> Used:
    """Run one program for a given length, into a fresh folder."""
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return measure(
        runner.command(length, scratch),
        work / "logs" / f"{runner.name}-{length}.log".replace(" ", "-"),
    )


def summary(rows: Sequence[Row]) -> list[Row]:
    """Take medians over the rounds of each pairing; what was not run stays as it is."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        if not row.get("not_run"):
            groups.setdefault((row["case"], row["peer"], row["kinesphere"]), []).append(row)
    return [_middle(group) for group in groups.values()]


def _middle(group: Sequence[Row]) -> Row:
    ratios = [float(row["ratio"]) for row in group]
    numbers = ("peer_images_per_second", "images_per_second", "ratio", "peer_peak_gb", "peak_gb")
    known = {key: [float(row[key]) for row in group if row.get(key) is not None] for key in numbers}
    medians = {key: float(np.median(values)) if values else None for key, values in known.items()}
    return {
        **group[0],
        **medians,
        "range": f"{show(min(ratios))} to {show(max(ratios))}",
        "rounds": len(group),
    }


def describe(rows: Sequence[Row]) -> str:
    """Write the medians as Markdown, with what was measured and how."""
    medians = summary(rows)
    versions = {row["peer"]: row["peer_version"] for row in medians}
    missing = {row["case"]: row["not_run"] for row in rows if row.get("not_run")}
    machine = (
        f"{platform.machine()}, one thread; images a CPU-second, medians over the pairs, "
        "range of their ratios."
    )
    parts = [
        f"{machine} `python benchmarks/peers/peers.py`.",
        "Versions: "
        + "; ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        + ".",
        markdown(medians, COLUMNS),
        "Most memory resident at once, GB:",
        markdown(medians, MEMORY_COLUMNS),
    ]
    if missing:
        parts.append("Not run:")
        parts.append("\n".join(f"- {name}: {why}" for name, why in missing.items()) + "\n")
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
