"""How near the default settings come to the truth, and to the ideal observer: data folders ×
methods × seeds.

    python benchmarks/accuracy/accuracy.py ../shared/data/adk ../shared/data/igg \
        ../shared/data/null --work /tmp/accuracy

Writes results/accuracy.csv with every score and results/accuracy.md with the worst seed of every
folder and method.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, evaluate, markdown, train, write_csv

from kinesphere.methods.registry import METHOD_NAMES, method_class

# What else is known of the sets: domains of adenylate kinase, hinge of the antibody.
CORE = "A:1-29,A:60-121,A:160-214"
KNOWN = {
    "adk": ("--distance", f"A:122-159/{CORE}", f"A:30-59/{CORE}"),
    "igg": ("--hinge", "B:226"),
}
COLUMNS = (
    "data",
    "method",
    "seed",
    "cpu_seconds",
    "ca_rmsd_median",
    "rmsd_ratio",
    "r_main_motion",
    "amplitude_main_motion",
    "ideal_r_main_motion",
    "fraction_of_ideal",
    "distance1_r",
    "distance1_ideal_r",
    "distance1_amplitude",
    "distance2_r",
    "distance2_ideal_r",
    "hinge_nearest_boundary",
    "motion_spread_median",
    "moved_median",
    "clashes",
)


@dataclass(frozen=True)
class Options:
    """What to run."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with particles.star, model.pdb or model.cif, consensus.mrc and truth.npz."""
    work: Path
    """Where runs are kept; finished ones are not repeated."""
    methods: tuple[str, ...] = METHOD_NAMES
    """Ways of recovering the motion."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs."""
    train: str = ""
    """More options of the training commands for every run, as in --train="--epochs 2"."""
    evaluate: str = ""
    """More options of `kinesphere evaluate` for every run, as in --evaluate="--threads 1"."""
    name: str = "accuracy"
    """Name of the tables."""


def main(options: Options) -> None:
    """Run, score, and rewrite the tables after every run."""
    rows: list[Row] = []
    for data in options.data:
        limits: Row = {}  # the ideal observer depends neither on the seed nor on the method
        for method in options.methods:
            for seed in options.seeds:
                run = options.work / f"{data.name}-{method}-seed{seed}"
                chosen = ["--seed", str(seed), *options.train.split()]
                seconds = train(method, data, run, chosen)
                more = [
                    *KNOWN.get(data.name, ()),
                    *options.evaluate.split(),
                    *(("--no-ideal",) if limits else ()),
                ]
                scores = evaluate(data, run, more, model=not method_class(method).moves_atoms)
                limits = limits or {key: value for key, value in scores.items() if "ideal_" in key}
                scores |= limits
                scores["fraction_of_ideal"] = fraction(scores)
                label = {"data": data.name, "method": method, "seed": seed}
                rows.append({**label, "cpu_seconds": seconds, **scores})
                write_csv(RESULTS / f"{options.name}.csv", rows)
    worst = [max(found, key=lambda row: row["ca_rmsd_median"]) for found in by_case(rows).values()]
    table = f"Worst of seeds {', '.join(map(str, options.seeds))}.\n\n{markdown(worst, COLUMNS)}"
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def fraction(scores: Row) -> float | None:
    """Correlation along the main motion over the ideal observer's, where both are defined."""
    found, limit = scores["r_main_motion"], scores.get("ideal_r_main_motion")
    return found / limit if found is not None and limit else None


def by_case(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Group rows by data folder and method."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["method"]), []).append(row)
    return groups


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
