"""How much of what the noise leaves is found, from bright images to faint ones: both ways of
inferring latents.

    python benchmarks/accuracy/snr_series.py --work /tmp/snr --n 4000 10000 20000

Simulates adenylate kinase at every SNR, trains, and compares with the ideal observer. Writes
results/snr_series.csv and .md, and a plot as .svg and .png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import tyro

mpl.use("Agg")

from matplotlib import pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, evaluate, kinesphere, markdown, train, write_csv

Method = Literal["marginal", "vae"]
COLUMNS = (
    "snr",
    "n",
    "method",
    "seed",
    "cpu_seconds",
    "r_main_motion",
    "ideal_r_main_motion",
    "fraction_of_ideal",
    "rmsd_ratio",
)
LABELS = {"marginal": "marginal likelihood", "vae": "VAE encoder"}


@dataclass(frozen=True)
class Options:
    """What to run."""

    work: Path
    """Where particles and runs are kept; what is there already is not repeated."""
    snr: tuple[float, ...] = (0.1, 0.01, 0.001)
    """Signal-to-noise ratios: variance of the signal over that of the noise."""
    n: tuple[int, ...] = (4000,)
    """Particles: one number, or one for every SNR."""
    methods: tuple[Method, ...] = ("marginal", "vae")
    """Ways of inferring latents."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs; the particles are the same."""
    simulate: str = ""
    """More options of `kinesphere simulate`, as in --simulate="--box 32"."""
    segments: str = ""
    """More options of `kinesphere segments`, as in --segments="--epochs 2"."""
    evaluate: str = ""
    """More options of `kinesphere evaluate`, as in --evaluate="--threads 1"."""
    name: str = "snr_series"
    """Name of the tables and the plot."""


def main(options: Options) -> None:
    """Simulate, run, score; rewrite the tables after every run, and plot at the end."""
    numbers = options.n * len(options.snr) if len(options.n) == 1 else options.n
    rows: list[Row] = []
    for snr, n in zip(options.snr, numbers, strict=True):
        data = options.work / f"snr{snr:g}-n{n}"
        if not (data / "truth.npz").exists():
            kinesphere(
                "simulate",
                "--out",
                data,
                "--snr",
                str(snr),
                "--n",
                str(n),
                *options.simulate.split(),
            )
        for method in options.methods:
            for seed in options.seeds:
                run = options.work / f"{data.name}-{method}-seed{seed}"
                arguments = ["--inference", method, "--seed", str(seed), *options.segments.split()]
                seconds = train("segments", data, run, arguments)
                scores = evaluate(data, run, options.evaluate.split())
                rows.append(
                    {"snr": snr, "method": method, "seed": seed, "cpu_seconds": seconds, **scores}
                )
                write_csv(RESULTS / f"{options.name}.csv", rows)
    table = markdown(rows, COLUMNS)
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    plot(rows, RESULTS / options.name)
    print(table)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw correlation against SNR, absolute and as a fraction of the limit; a point is a seed, a
    line their worst.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    limit = {row["snr"]: row["ideal_r_main_motion"] for row in rows}
    left.plot(limit.keys(), limit.values(), "k--", label="ideal observer")
    right.axhline(1.0, color="k", linestyle="--")
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        for axes, key in ((left, "r_main_motion"), (right, "fraction_of_ideal")):
            found = [(row["snr"], row[key] or 0.0) for row in rows if row["method"] == method]
            worst = {snr: min(value for other, value in found if other == snr) for snr, _ in found}
            axes.plot(*zip(*found, strict=True), "o", color=f"C{number}")
            axes.plot(
                worst.keys(), worst.values(), color=f"C{number}", label=LABELS.get(method, method)
            )
    for axes, title in ((left, "r along the main motion"), (right, "r / r of the ideal observer")):
        axes.set(xscale="log", xlabel="signal-to-noise ratio", ylabel=title, ylim=(0.0, 1.05))
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
