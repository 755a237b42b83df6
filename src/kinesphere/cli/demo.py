"""Make images of a moving enzyme, recover its motion, compare with the truth, and show the result; takes minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from kinesphere import load
from kinesphere.analysis.half_view import one_latent_space
from kinesphere.analysis.statement import state
from kinesphere.analysis.summary import AnalysisSettings, analyse
from kinesphere.analysis.tables import write_analysis
from kinesphere.cli import evaluate, segments, simulate
from kinesphere.config import load_document, save_yaml, to_plain
from kinesphere.errors import InputError
from kinesphere.inference.config import TrainingConfig
from kinesphere.inference.schedule import ScheduleConfig
from kinesphere.report.page import write_report
from kinesphere.runtime import atomic_write, console, set_threads
from kinesphere.simulate.recipe import Recipe
from kinesphere.validation.scores import ScoreSettings, score
from kinesphere.validation.truth import read_truth

_IDEAL_IMAGES = 500  # as many as two digits need
OPTIONS_FILE, REPORT_FILE, SCORES_FILE = "demo.yaml", "report.html", "scores.json"


@dataclass(frozen=True)
class DemoOptions:
    """Options of `kinesphere demo`."""

    out: Path = Path("demo")
    """Folder for the particles, the run and report.html; the same command continues what was interrupted."""
    images: int = 2000
    """Number of images to make."""
    epochs: int = 10
    """Passes over the images."""
    seed: int = 0
    """Seed of the images and of the run."""
    threads: int | None = None
    """CPU threads; none: all."""


@dataclass(frozen=True)
class Method:
    """A way of recovering the motion.

    Parameters
    ----------
    name
        Its command, and the name of its run folder.
    idea
        What it does, in a sentence.
    run
        Does it.
    """

    name: str
    idea: str
    run: Callable[[DemoOptions, Path], None]


def run(options: DemoOptions) -> None:
    """Go through all steps, each as a user would call it, and say how near the result is to the truth."""
    set_threads(options.threads)
    _start(options)
    data, started = options.out / "data", time.monotonic()
    with _step(f"Making {options.images:,} noisy images of a molecule that opens and closes: adenylate kinase"):
        _simulate(options, data)
    for method in METHODS:
        with _step(method.idea):
            method.run(options, data)
    run_folder = options.out / METHODS[0].name
    with _step("Comparing what was found with what the images were made from"):
        scores = _evaluate(run_folder, data / "truth.npz", options.out / SCORES_FILE)
    with _step("Describing the motion, and writing the report"):
        _report(run_folder, options.out / REPORT_FILE)
    console.print(_scores_table(scores))
    _say(f"Done in {time.monotonic() - started:.0f} s. Open in a browser: {options.out / REPORT_FILE}", bold=True)
    _say(f"In ChimeraX: open {run_folder / 'analysis' / 'open_in_chimerax.cxc'}")


def _start(options: DemoOptions) -> None:
    """Make the folder, or check that it holds this very demonstration."""
    path = options.out / OPTIONS_FILE
    chosen = to_plain(replace(options, out=Path(), threads=None))
    if not path.exists():
        if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
            raise InputError(options.out, "is not an empty folder", "Give a new folder as --out")
        save_yaml(replace(options, out=Path(), threads=None), path)
    elif load_document(path)["config"] != chosen:
        raise InputError(path, "holds a demonstration with other options", "Repeat them, or give another --out")


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Announce a step, and say how long it took."""
    started = time.monotonic()
    _say(f"▸ {title}", bold=True)
    yield
    _say(f"  {time.monotonic() - started:.0f} s\n")


def _say(text: str, *, bold: bool = False) -> None:
    console.print(text, style="bold" if bold else None, highlight=False, soft_wrap=True)


def _simulate(options: DemoOptions, data: Path) -> None:
    if (data / "README.md").exists():  # written last
        _say(f"  {data} is there already")
        return
    recipe = Recipe(n=options.images, snr=0.1, seed=options.seed)
    _say("  Each shows one of 41 states between the crystal structures 1AKE (closed) and 4AKE (open), under ten times")
    _say(f"  more noise than signal: kinesphere simulate --out {data} --n {recipe.n} --snr {recipe.snr:g}")
    simulate.run(simulate.SimulateOptions(out=data, recipe=recipe))


def _segments(options: DemoOptions, data: Path) -> None:
    star, model, density = data / "particles.star", data / "model.cif", data / "consensus.mrc"
    _say(
        f"  kinesphere segments {star} --model {model} --map {density} --out {options.out / 'segments'}"
        f" --epochs {options.epochs}"
    )
    schedule = ScheduleConfig(epochs=options.epochs)
    training = TrainingConfig(schedule=schedule, seed=options.seed, threads=options.threads)
    out = options.out / "segments"
    segments.run(segments.SegmentsOptions(particles=star, model=model, map=density, out=out, training=training))


METHODS = (
    Method("segments", "Recovering the conformation in every image, from the closed structure alone", _segments),
)


def _evaluate(folder: Path, truth: Path, path: Path) -> dict[str, Any]:
    _say(f"  kinesphere evaluate {folder} --truth {truth}")
    scores = evaluate.plain(score(load(folder), read_truth(truth), ScoreSettings(ideal_images=_IDEAL_IMAGES)))
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return scores


def _report(folder: Path, path: Path) -> None:
    _say(f"  kinesphere report {folder}")
    finished = one_latent_space(load(folder))
    analysis = analyse(finished, AnalysisSettings())
    write_analysis(finished, analysis, folder / "analysis")
    write_report(finished, analysis, path)
    _say(f"  {state(analysis).headline}")


def _scores_table(scores: dict[str, Any]) -> Table:
    table = Table(title="How well the truth was recovered", title_justify="left", box=None, padding=(0, 2))
    for heading in ("", "this run", "for comparison"):
        table.add_column(heading)
    found, still, ideal = (scores[f"{name}_rmsd_median"] for name in ("ca", "still", "ideal_ca"))
    observer = "for an observer who knows every state there is"
    table.add_row("Error of an image's structure (Cα, median)", f"{found:.2f} Å", f"{still:.2f} Å if nothing moved")
    table.add_row("", "", f"{ideal:.2f} Å {observer}")
    r, limit = scores["r_main_motion"], scores["ideal_r_main_motion"]
    table.add_row("Correlation with the true motion, image by image", f"{r:.3f}", f"{limit:.3f} {observer}")
    return table
