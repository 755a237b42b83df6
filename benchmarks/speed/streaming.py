"""Does training from a file cost time or memory? Particle sets of growing size, kept as float32,
float16 and on disk.

    OMP_NUM_THREADS=1 python benchmarks/speed/streaming.py --work /tmp/streaming \
        --data ../shared/data/adk

Needs 25 GB of disk. Every set names the same 4,096 images of noise again and again, so that a STAR
file of two million rows needs no two million images; what is prepared from it (`kinesphere
preprocess --cache`) and streamed is as large as that of real ones. Memory is that of whole
processes: one that prepares, and one that reads the STAR file, opens the cache and trains. Rates
are by turns, on one set. The model is small and its inference quick (`vae`), so that images count
as much as they can. With --data also: does float16 change the scores? Writes results/streaming.csv
and .md; what is in --work is not made again.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from throughput import Case, make_method, random_reference
from throughput import Options as ThroughputOptions

from kinesphere.inference.options import LatentsConfig
from kinesphere.io.mrc import write_stack
from kinesphere.observations.coefficient_cache import CACHE_FILE
from kinesphere.observations.coefficient_file import coefficient_writer
from kinesphere.observations.observations import Observations
from kinesphere.observations.options import ImagesConfig
from kinesphere.observations.prepare import origin, prepare_images
from kinesphere.particles import ParticleSet
from kinesphere.training.schedule import Schedule
from kinesphere.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, evaluate, kinesphere, markdown, train, write_csv

CASE = Case("segments", points=100, box=128, batch=64, pixel_size=1.5, segments=6)
N_DIFFERENT = 4096
STAR_HEAD = f"""
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
1 noise 300.0 2.7 0.1 {CASE.pixel_size} {CASE.box} 2

data_particles

loop_
_rlnImageName #1
_rlnAngleRot #2
_rlnAngleTilt #3
_rlnAnglePsi #4
_rlnOriginXAngst #5
_rlnOriginYAngst #6
_rlnDefocusU #7
_rlnDefocusV #8
_rlnDefocusAngle #9
_rlnOpticsGroup #10
"""
MEMORY_COLUMNS = (
    "images",
    "trained",
    "file_gb",
    "prepare_hwm_gb",
    "tables_gb",
    "train_hwm_gb",
    "train_anonymous_gb",
    "train_of_files_gb",
)
RATE_COLUMNS = ("kept", "images", "per_cpu_second", "per_second", "relative_cpu", "relative_wall")
SCORE_COLUMNS = (
    "kept",
    "seed",
    "r_main_motion",
    "amplitude_main_motion",
    "ca_rmsd_median",
    "rmsd_ratio",
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    work: Path
    """Folder for the sets; two million images take 18 GB."""
    sizes: tuple[int, ...] = (31_250, 125_000, 500_000, 2_000_000)
    """Images of the sets."""
    prepared: int = 125_000
    """Sets up to this are prepared by `preprocess --cache`; of larger ones the same file is written
    by repetition."""
    part: int = 200_000
    """Images of each set that are trained on where memory is measured: windows of memory are some
    57,000."""
    rounds: int = 5
    """How often rates are measured for each way of keeping images."""
    round_images: int = 12_800
    """Images trained on each time, of the largest set that was prepared."""
    data: Path | None = None
    """Folder of particles with a truth, on which segments are trained with float32 and with float16
    from disk."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of these runs."""
    only: int | None = None
    """Internal: train on one set, print the memory that took."""


def main(options: Options) -> None:
    """Make the sets, measure memory, rates and scores."""
    torch.set_num_threads(1)
    if options.only is not None:
        print(json.dumps(train_once(options.work, options.only, options.part)))
        return
    memory = [measure_memory(options, n) for n in options.sizes]
    rates = measure_rates(options, max(n for n in options.sizes if n <= options.prepared))
    scores = measure_scores(options) if options.data else []
    write_csv(RESULTS / "streaming.csv", [*memory, *rates, *scores])
    text = report(memory, rates, scores)
    (RESULTS / "streaming.md").write_text(text, encoding="utf-8")
    print(text)


def make_set(work: Path, n: int) -> Path:
    """Write a STAR file that names the images of one stack of noise again and again."""
    stack, star = work / "noise.mrcs", work / f"noise{n}.star"
    rng = np.random.default_rng(0)
    shift = rng.uniform(-5, 5, (2, N_DIFFERENT))
    if not stack.exists():
        write_stack(
            stack,
            rng.normal(size=(N_DIFFERENT, CASE.box, CASE.box)).astype(np.float32),
            CASE.pixel_size,
        )
    if not star.exists():
        with star.open("w", encoding="utf-8") as file:
            file.write(STAR_HEAD)
            for first in range(0, n, 100_000):
                rows = np.arange(first, min(first + 100_000, n))
                rot, tilt, psi = rng.uniform(-180, 180, (3, len(rows)))
                x, y = shift[:, rows % N_DIFFERENT]
                defocus = rng.uniform(8000, 25000, len(rows))
                file.writelines(
                    f"{row % N_DIFFERENT + 1:06d}@noise.mrcs {a:.2f} {abs(b):.2f} {c:.2f} "
                    f"{u:.2f} {v:.2f} {d:.1f} "
                    f"{d - 200:.1f} 30.0 1\n"
                    for row, a, b, c, u, v, d in zip(
                        rows, rot, tilt, psi, x, y, defocus, strict=True
                    )
                )
    return star


def measure_memory(options: Options, n: int) -> Row:
    """Prepare and train on a set, each in a process of its own."""
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    found = work / f"memory{n}.json"
    if not found.exists():
        star, cache = make_set(work, n), work / f"cache{n}"
        row: Row = {"images": n}
        if n <= options.prepared:
            command = ("preprocess", star, "--out", cache, "--cache", "--overwrite")
            row |= {
                f"prepare_{key}": value for key, value in in_a_process(*map(str, command)).items()
            }
        elif not (cache / CACHE_FILE).exists():
            repeat_cache(work, star, cache / CACHE_FILE)
        command = (
            sys.executable,
            __file__,
            "--work",
            work,
            "--only",
            str(n),
            "--part",
            str(options.part),
        )
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        row |= {"file_gb": (cache / CACHE_FILE).stat().st_size / 1e9} | json.loads(printed)
        found.write_text(json.dumps(row), encoding="utf-8")
    return dict(json.loads(found.read_text(encoding="utf-8")))


def repeat_cache(work: Path, star: Path, path: Path) -> None:
    """Write what `preprocess --cache` would, preparing each of the different images once."""
    particles, config = ParticleSet.read(star), ImagesConfig()
    once = prepare_images(particles[:N_DIFFERENT], replace(config, coefficients="exact"), work)
    with coefficient_writer(
        path, len(particles), len(once.band), origin(particles, config)
    ) as writer:
        for first in range(0, len(particles), N_DIFFERENT):
            writer.write(once.exact[: len(particles) - first])


MEASURED = """
import resource, sys, time
from kinesphere.cli.main import main

started, code = time.monotonic(), main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = resource.getrusage(resource.RUSAGE_SELF)
peak_gb = int(status["VmHWM"].split()[0]) * 1024 / 1e9
print(time.monotonic() - started, used.ru_utime + used.ru_stime, peak_gb)
sys.exit(code)
"""


def in_a_process(*arguments: str) -> Row:
    """Run a command of the program; return its time and the most memory it had."""
    command = (sys.executable, "-c", MEASURED, *arguments)
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(zip(("seconds", "cpu_seconds", "hwm_gb"), map(float, printed.split()), strict=True))


def train_once(work: Path, n: int, part: int) -> Row:
    """Read a STAR file, open its cache, train on a part of the images; return memory by kind, in
    GB.
    """
    images = open_set(work, n)
    tables = memory_gb("VmRSS")
    most = {"RssAnon": 0.0, "RssFile": 0.0}

    def watch(_: int) -> None:
        if trainer.progress.step % 16 == 0:
            most.update({kind: max(value, memory_gb(kind)) for kind, value in most.items()})

    trainer = make_trainer(images)
    n_trained = min(part, n)
    wall, cpu = train_on(trainer, n_trained, watch)
    return {
        "trained": n_trained,
        "tables_gb": tables,
        "train_hwm_gb": memory_gb("VmHWM"),
        "train_anonymous_gb": most["RssAnon"],
        "train_of_files_gb": most["RssFile"],
        "train_per_second": n_trained / wall,
        "train_per_cpu_second": n_trained / cpu,
    }


def memory_gb(kind: str) -> float:
    """Read a line of this process's memory from /proc."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) * 1024 / 1e9


def open_set(work: Path, n: int) -> Observations:
    """Open a prepared set as a run does."""
    config = ImagesConfig(cache=work / f"cache{n}", coefficients="disk")
    return prepare_images(ParticleSet.read(work / f"noise{n}.star"), config, work)


def make_trainer(observations: Observations) -> Trainer:
    """Train a small random chain by the encoder."""
    torch.manual_seed(0)
    method = make_method(CASE, LatentsConfig(inference="vae"), ThroughputOptions())
    reference, band = random_reference(CASE, method), observations.band
    schedule = Schedule(
        method.options.training.schedule, len(observations), band.n_shells, CASE.batch
    )
    forward = method.make_forward(reference, band, torch.device("cpu"))
    return Trainer(method.make_model(reference, band), observations, forward, schedule)


def report(memory: list[Row], rates: list[Row], scores: list[Row]) -> str:
    """Write the tables with what their columns mean."""
    shells = int(CASE.box * CASE.pixel_size / 5.0)
    what = f"""\
Box {CASE.box} px of {CASE.pixel_size} Å, the default 5 Å ({shells} shells), one thread; segments of {CASE.points} \
residues, inference `vae`, batches of {CASE.batch}.

Most memory (VmHWM) of the process that prepares the images (`prepare_hwm_gb`), and of the one that reads the STAR file \
(`tables_gb` after it), opens the cache and trains on `trained` images of a pass (`train_hwm_gb`): anonymous memory, and \
pages of files, libraries too. Sets that were not prepared have a file of the same 4,096 images by repetition."""  # noqa: E501
    how = """\
Images a second, median over rounds by turns; `relative_…`: speed as part of that with float16 in memory, median of the \
ratios within a round. `float16 on disk`: the file is in the system's cache; `nothing cached`: it is dropped from there \
before each round, which then begins with reading a whole window, four times what a round trains on."""  # noqa: E501
    parts = [what, markdown(memory, MEMORY_COLUMNS), how, markdown(rates, RATE_COLUMNS)]
    if scores:
        parts += [
            "Scores of segments with float32 and with float16 from a cache.",
            markdown(scores, SCORE_COLUMNS),
        ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


class PauseError(Exception):
    """Ends `fit` where it is."""


def train_on(
    trainer: Trainer, n: int, watch: Callable[[int], None] = lambda _: None
) -> tuple[float, float]:
    """Go on training for some images; return seconds on the wall and of the processor."""
    done = 0

    def pause(n_images: int) -> None:
        nonlocal done
        done += n_images
        watch(n_images)
        if done >= n:
            raise PauseError

    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    with suppress(PauseError):
        trainer.fit(advance=pause)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_rates(options: Options, n: int) -> list[Row]:
    """Train by turns on the same images kept in memory and on disk, in the system's cache and
    not.
    """
    on_disk, file = open_set(options.work, n), options.work / f"cache{n}" / CACHE_FILE
    exact = replace(on_disk, data=on_disk.data.take(torch.arange(n), len(on_disk.band)))
    kept = {
        "float32 in memory": (exact, warm),
        "float16 in memory": (replace(on_disk, data=on_disk.data.loaded("cpu")), warm),
        "float16 on disk": (on_disk, warm),
        "float16 on disk, nothing cached": (on_disk, cold),
    }
    trainers = {name: make_trainer(images) for name, (images, _) in kept.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in kept}
    for number in range(options.rounds):
        for name in list(kept)[:: (-1) ** number]:
            _, prepare = kept[name]
            prepare(file)
            times[name].append(train_on(trainers[name], options.round_images))
    preloaded = np.array(times["float16 in memory"])
    return [
        {
            "kept": name,
            "images": n,
            "per_second": options.round_images / np.median(found, axis=0)[0],
            "per_cpu_second": options.round_images / np.median(found, axis=0)[1],
            **dict(
                zip(
                    ("relative_wall", "relative_cpu"),
                    np.median(preloaded / found, axis=0),
                    strict=True,
                )
            ),
        }
        for name, found in times.items()
    ]


def warm(file: Path) -> None:
    """Read a file, so that the system has it in its cache."""
    with file.open("rb", buffering=0) as opened:
        while opened.read(1 << 24):
            pass


def cold(file: Path) -> None:
    """Have the system drop a file from its cache."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_scores(options: Options) -> list[Row]:
    """Train on real signal with float32 and with float16 from disk, and score against the truth."""
    data, work = options.data or Path(), options.work / "accuracy"
    if not (work / "cache" / CACHE_FILE).exists():
        kinesphere("preprocess", data / "particles.star", "--out", work / "cache", "--cache")
    rows: list[Row] = []
    for kept, extra in (("exact", []), ("disk", ["--cache", str(work / "cache")])):
        for seed in options.seeds:
            run = work / f"{kept}-seed{seed}"
            chosen = ["--coefficients", kept, "--seed", str(seed), "--threads", "1", *extra]
            train("segments", data, run, chosen)
            rows.append({"kept": kept, "seed": seed} | evaluate(data, run))
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
