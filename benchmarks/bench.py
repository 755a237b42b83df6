"""What the benchmarks share: the program run as a user runs it, and tables as CSV and Markdown."""

from __future__ import annotations

import csv
import json
import math
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinesphere.methods.registry import method_class

RESULTS = Path(__file__).parent / "results"

Row = dict[str, Any]


def kinesphere(*arguments: str | Path) -> tuple[str, float]:
    """Run one command.

    Parameters
    ----------
    *arguments
        The command and its options.

    Returns
    -------
    tuple
        What it printed on standard output, and the CPU time it took in seconds.

    Raises
    ------
    SystemExit
        If it fails; its message has gone to standard error.
    """
    command = [sys.executable, "-m", "kinesphere", *map(str, arguments)]
    started = _cpu_seconds_of_children()
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {finished.returncode}")
    return finished.stdout, _cpu_seconds_of_children() - started


def _cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def model_of(data: Path) -> Path:
    """Atomic model of a folder of particles."""
    return next(path for path in (data / "model.pdb", data / "model.cif") if path.exists())


def train(method: str, data: Path, run: Path, options: Sequence[str]) -> float:
    """Train a method of the registry on a folder of particles; return the CPU time in seconds, NaN
    for a run that was there already.
    """
    done = (run / "latents.npz").exists()
    density = data / "consensus.mrc"
    needs = method_class(method).from_files(data / "particles.star", density, model_of(data))
    model = needs.options.atomic_model
    with_model = () if model is None else ("--model", model)
    inputs = [data / "particles.star", *with_model, "--map", density]
    _, seconds = kinesphere(method, *inputs, "--out", run, *options)
    return float("nan") if done else seconds


def evaluate(data: Path, run: Path, options: Sequence[str] = (), *, model: bool = False) -> Row:
    """Score a run against the truth in its folder; members of lists become keys of their own."""
    with_model = ("--model", model_of(data)) if model else ()
    printed, _ = kinesphere("evaluate", run, "--truth", data / "truth.npz", *with_model, *options)
    scores: Row = json.loads(printed)
    for number, distance in enumerate(scores.pop("distances"), start=1):
        name = distance.pop("distance")
        scores[f"distance{number}"] = name
        scores |= {f"distance{number}_{key}": value for key, value in distance.items()}
    flat: Row = {}
    for key, value in scores.items():
        values = value if isinstance(value, list) else [value]
        flat |= {
            f"{key}{number}" if number > 1 else key: item
            for number, item in enumerate(values, start=1)
        }
    return flat


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the union of their keys as columns, in the order in which they first
    occur.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            [
                {key: "" if is_undefined(value) else value for key, value in row.items()}
                for row in rows
            ]
        )


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write some columns of rows as a Markdown table."""
    lines = [
        columns,
        ["---"] * len(columns),
        *([show(row.get(column)) for column in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def show(value: Any) -> str:
    """Write a value to four digits; what is missing or undefined as a dash."""
    if is_undefined(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_undefined(value: Any) -> bool:
    """Tell whether a score is missing or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))
