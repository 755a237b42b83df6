"""Whether validation tells motion from noise: data folders × methods × seeds, and what `kinesphere
validate` says.

    python benchmarks/accuracy/validation.py ../shared/data/adk ../shared/data/igg \
        ../shared/data/null --work /tmp/validation

Writes results/validation.csv and results/validation.md, or tables of another --name.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from kinesphere.validation.record import RECORD_FILE, ValidationRecord

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, kinesphere, markdown, train, write_csv

from kinesphere.methods.registry import METHOD_NAMES

COLUMNS = (
    "data",
    "method",
    "seed",
    "verdict",
    "gain",
    "permuted_largest",
    "phase_randomised_largest",
    "shuffled_poses_largest",
    "displacement_angstrom",
    "displacement_error_angstrom",
    "cpu_seconds",
)
_LEGEND = (
    "Gains and their nulls in nats per image, of each null the largest; RMS "
    "displacements and errors in Å."
)


@dataclass(frozen=True)
class Options:
    """What to run."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with particles.star, model.pdb or model.cif, and consensus.mrc."""
    work: Path
    """Where runs are kept; finished ones are not repeated."""
    methods: tuple[str, ...] = METHOD_NAMES
    """Ways of recovering the motion."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs."""
    train: str = ""
    """More options of the training commands for every run, as in --train="--epochs 2"."""
    validate: str = ""
    """More options of `kinesphere validate` for every run, as in --validate="--threads 1"."""
    name: str = "validation"
    """Name of the tables."""


def main(options: Options) -> None:
    """Train, validate, and rewrite the tables after every run."""
    rows: list[Row] = []
    for data in options.data:
        for method in options.methods:
            for seed in options.seeds:
                run = options.work / f"{data.name}-{method}-seed{seed}"
                train(method, data, run, ["--seed", str(seed), *options.train.split()])
                _, seconds = kinesphere("validate", run, *options.validate.split())
                found = numbers(ValidationRecord.load(run / RECORD_FILE))
                rows.append(
                    {
                        "data": data.name,
                        "method": method,
                        "seed": seed,
                        **found,
                        "cpu_seconds": seconds,
                    }
                )
                write_csv(RESULTS / f"{options.name}.csv", rows)
                write_markdown(rows, options)


def write_markdown(rows: list[Row], options: Options) -> None:
    """Write the table, with the command that made it."""
    folders, seeds = " ".join(data.name for data in options.data), " ".join(map(str, options.seeds))
    command = (
        f"python benchmarks/accuracy/validation.py {folders} --methods "
        f"{' '.join(options.methods)} --seeds {seeds} --work WORK"
    )
    text = f"Made by `{command}`.\n\n{_LEGEND}\n\n{markdown(rows, COLUMNS)}"
    (RESULTS / f"{options.name}.md").write_text(text, encoding="utf-8")


def numbers(record: ValidationRecord) -> Row:
    """Take the verdict, the gain, and the largest value of each null out of a record."""
    by_name = {control.name: control for control in record.controls}
    row: Row = {"verdict": record.verdict, "gain": by_name["held-out"].value}
    nulls = {
        "held-out": "permuted_largest",
        "phase-randomised": "phase_randomised_largest",
        "shuffled-poses": "shuffled_poses_largest",
        "half-sets": "displacement_error_angstrom",
    }
    row |= {column: max(by_name[name].null) for name, column in nulls.items() if name in by_name}
    if "half-sets" in by_name:
        row["displacement_angstrom"] = by_name["half-sets"].value
    return row


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
