"""How much faster two ranks train than one, each on one thread: both methods, both ways of
inference.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/speed/ranks.py

In each round the first rank trains alone while the others wait, then all train together on the same
batches. The wall clock tells the speed-up where every rank has a core to itself; on a machine that
others use, it tells who else was there. CPU seconds depend less on that: of all ranks, the one that
uses most sets the pace. Each case is measured with the default batch and with one four times as
large. Writes results/ranks.csv and .md.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from throughput import CASES, Case, Options, make_method, make_trainer

from kinesphere import ranks as module
from kinesphere.inference.options import LatentsConfig
from kinesphere.ranks import ALONE, Ranks, joined

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, markdown, write_csv

COLUMNS = (
    "method",
    "points",
    "box",
    "batch",
    "inference",
    "images_per_second_alone",
    "images_per_second",
    "times_wall",
    "times_wall_best",
    "times_cpu",
    "cpu_ms_per_image_alone",
    "cpu_ms_per_image_of_a_rank",
    "communication_share",
    "load_average",
)


@dataclass(frozen=True)
class RankOptions:
    """What to measure."""

    cases: tuple[int, ...] = (0, 1, 4, 5)
    """Which of the cases of throughput.py."""
    inference: tuple[Literal["marginal", "vae"], ...] = ("marginal", "vae")
    """Which ways of inference."""
    larger_batch: tuple[int, ...] = (1, 4)
    """Images a step, as multiples of those in throughput.py."""
    rounds: int = 5
    """Times that each is measured, alone and together in turn."""
    resolution_angstrom: float = 5.0
    """Finest resolution used."""
    sizes: Options = field(default_factory=lambda: Options(epochs=2, batches=12))
    """How much is trained in a round; the first pass does not count."""


@dataclass
class Spent:
    """What the counted passes of one training took: wall clock, CPU of this process, and waiting
    and sending.
    """

    wall: float
    cpu: float
    exchange: float


def main(options: RankOptions) -> None:
    """Measure every case."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    with joined() as ranks:
        for number in options.cases:
            for inference in options.inference:
                for larger in options.larger_batch:
                    case = replace(CASES[number], batch=larger * CASES[number].batch)
                    rows.append(measure(case, inference, options, ranks))
                    if ranks.is_first:
                        write_csv(RESULTS / "ranks.csv", rows)
        if ranks.is_first:
            command = " ".join(["ranks.py", *sys.argv[1:]])
            about = (
                f"{ranks.size} ranks of one thread, gloo, {os.cpu_count()} cores; medians "
                f"of {options.rounds} rounds"
            )
            about += f" (`{command}`).\n\n"
            table = about + markdown(rows, COLUMNS)
            (RESULTS / "ranks.md").write_text(table, encoding="utf-8")
            print(table)


def measure(case: Case, inference: str, options: RankOptions, ranks: Ranks) -> Row:
    """Train alone and together in turn."""
    alone: list[Spent] = []
    together: list[Spent] = []
    slowest: list[float] = []
    for _ in range(options.rounds):
        if ranks.is_first:
            alone.append(train(case, inference, options, ALONE))
        ranks.barrier()
        spent = train(case, inference, options, ranks)
        wall, cpu = ranks.largest(spent.wall, spent.cpu)
        together.append(Spent(wall, spent.cpu, spent.exchange))
        slowest.append(cpu)
    if not ranks.is_first:
        return {}
    n_images = (options.sizes.epochs - 1) * options.sizes.batches * case.batch
    cpu_alone, cpu = (
        statistics.median(values) for values in ([spent.cpu for spent in alone], slowest)
    )
    wall_alone, wall = (
        statistics.median(spent.wall for spent in runs) for runs in (alone, together)
    )
    return {
        "method": case.method,
        "points": case.points,
        "box": case.box,
        "batch": case.batch,
        "inference": inference,
        "images_per_second_alone": n_images / wall_alone,
        "images_per_second": n_images / wall,
        "times_wall": statistics.median(
            a.wall / b.wall for a, b in zip(alone, together, strict=True)
        ),
        "times_wall_best": min(spent.wall for spent in alone)
        / min(spent.wall for spent in together),
        "times_cpu": cpu_alone / cpu,
        "cpu_ms_per_image_alone": 1e3 * cpu_alone / n_images,
        "cpu_ms_per_image_of_a_rank": 1e3 * cpu / n_images,
        "communication_share": statistics.median(spent.exchange / spent.wall for spent in together),
        "load_average": os.getloadavg()[0],
    }


def train(case: Case, inference: str, options: RankOptions, ranks: Ranks) -> Spent:
    """Train from the start; the first pass, in which things are compiled and allocated, is not
    counted.
    """
    latents = LatentsConfig(inference=inference, latent_dim=options.sizes.latent_dim)
    method = make_method(case, latents, options.sizes)
    trainer = make_trainer(
        case,
        options.resolution_angstrom,
        method,
        options.sizes.batches * case.batch,
        torch.device("cpu"),
    )
    trainer.ranks = ranks
    with timed_exchanges() as exchanged:
        marks = []

        def mark(_: object = None) -> None:
            ranks.barrier()
            marks.append(Spent(time.perf_counter(), time.process_time(), sum(exchanged)))

        trainer.fit(report=mark)
    first, last = marks[0], marks[-1]
    return Spent(last.wall - first.wall, last.cpu - first.cpu, last.exchange - first.exchange)


@contextmanager
def timed_exchanges() -> Iterator[list[float]]:
    """Collect the seconds spent in each collective operation, waiting for the others included."""
    original, seconds = module._in_contact, []  # noqa: SLF001 - where all operations pass

    @contextmanager
    def timed() -> Iterator[None]:
        started = time.perf_counter()
        with original():
            yield
        seconds.append(time.perf_counter() - started)

    module._in_contact = timed  # noqa: SLF001
    try:
        yield seconds
    finally:
        module._in_contact = original  # noqa: SLF001


if __name__ == "__main__":
    main(tyro.cli(RankOptions, description=__doc__))
