"""Make images of a moving enzyme, recover its motion, compare with the truth; takes minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from kinesphere import load
from kinesphere.analysis.options import AnalysisSettings
from kinesphere.cli import evaluate, reconstruct, simulate
from kinesphere.cli._method import run_method
from kinesphere.config import load_document, save_yaml, to_plain
from kinesphere.errors import InputError
from kinesphere.evaluation.options import ScoreSettings
from kinesphere.methods.base import Method
from kinesphere.methods.registry import METHOD_NAMES, method_class
from kinesphere.runtime import atomic_write, console, set_threads
from kinesphere.simulate.recipe import Recipe

if TYPE_CHECKING:
    from kinesphere.runs.run import Run

_IDEAL_IMAGES = 500  # as many as two digits need
SEGMENTS, FIELD = "segments", "field"
OPTIONS_FILE, REPORT_FILE, SCORES_FILE = "demo.yaml", "report.html", "scores.json"


@dataclass(frozen=True)
class DemoOptions:
    """Options of `kinesphere demo`."""

    out: Path = Path("demo")
    """Folder for the particles, the runs and report.html; the same command continues what was
    interrupted."""
    images: int = 2000
    """Number of images to make."""
    epochs: int = 10
    """Passes over the images."""
    seed: int = 0
    """Seed of the images and of the runs."""
    threads: int | None = None
    """CPU threads; none: all."""


def shown_methods() -> list[type[Method[Any]]]:
    """List the methods that the demonstration runs."""
    methods = [method_class(name) for name in METHOD_NAMES]
    return [method for method in methods if method.demonstration is not None]


def run(options: DemoOptions) -> None:
    """Go through all steps, each as a user would call it, and say how near the result is to the
    truth.
    """
    set_threads(options.threads)
    _start(options)
    data, started = options.out / "data", time.monotonic()
    with _step(
        f"Making {options.images:,} noisy images of a molecule that opens and closes: "
        "adenylate kinase"
    ):
        _simulate(options, data)
    methods = shown_methods()
    for method in methods:
        with _step(method.demonstration or method.summary):
            _recover(method, options, data)
    with _step("Putting every image back along its motion: the map that was blurred"):
        _reconstruct(options, options.out / FIELD)
    with _step("Comparing what was found with what the images were made from"):
        scores = {method.name: _evaluate(options.out, method, data) for method in methods}
        with atomic_write(options.out / SCORES_FILE) as temporary:
            temporary.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    with _step("Describing the motion, and writing the report"):
        _report(options.out)
    console.print(_scores_table(scores))
    _say(
        f"Done in {time.monotonic() - started:.0f} s. Open in a browser: "
        f"{options.out / REPORT_FILE}",
        bold=True,
    )
    _say(f"In ChimeraX: open {options.out / SEGMENTS / 'analysis' / 'open_in_chimerax.cxc'}")


def _start(options: DemoOptions) -> None:
    """Make the folder, or check that it holds this very demonstration."""
    path = options.out / OPTIONS_FILE
    chosen = to_plain(replace(options, out=Path(), threads=None))
    if not path.exists():
        if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
            raise InputError(options.out, "is not an empty folder", "Give a new folder as --out")
        save_yaml(replace(options, out=Path(), threads=None), path)
    elif load_document(path)["config"] != chosen:
        raise InputError(
            path, "holds a demonstration with other options", "Repeat them, or give another --out"
        )


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
    _say(
        "  Each shows one of 41 states between the crystal structures 1AKE (closed) and 4AKE "
        "(open), under ten times"
    )
    _say(
        f"  more noise than signal: kinesphere simulate --out {data} --n {recipe.n} --snr "
        f"{recipe.snr:g}"
    )
    simulate.run(simulate.SimulateOptions(out=data, recipe=recipe))


def _recover(method: type[Method[Any]], options: DemoOptions, data: Path) -> None:
    """Run a method with what it needs: the map, and the model where it cannot do without."""
    star, density, model = data / "particles.star", data / "consensus.mrc", data / "model.cif"
    default = method.from_files(star, density, model).options
    training = replace(
        default.training,
        schedule=replace(default.training.schedule, epochs=options.epochs),
        seed=options.seed,
        threads=options.threads,
    )
    out = options.out / method.name
    given = "" if default.atomic_model is None else f" --model {model}"
    command = f"kinesphere {method.name} {star}{given} --map {density}"
    _say(f"  {command} --out {out} --epochs {options.epochs}")
    run_method(method.name, out, replace(default, training=training))


def _reconstruct(options: DemoOptions, folder: Path) -> None:
    _say(f"  kinesphere reconstruct {folder}")
    reconstruct.run(reconstruct.ReconstructOptions(run=folder, threads=options.threads))


def _evaluate(folder: Path, method: type[Method[Any]], data: Path) -> dict[str, Any]:
    from kinesphere.evaluation.scores import score
    from kinesphere.evaluation.truth import read_truth
    from kinesphere.io.structure import read_model

    run: Run = load(folder / method.name)
    model = data / "model.cif"
    shown = "" if method.moves_atoms else f" --model {model}"
    _say(f"  kinesphere evaluate {folder / method.name} --truth {data / 'truth.npz'}{shown}")
    if not method.moves_atoms:
        run = run.with_model(read_model(model))
    settings = ScoreSettings(ideal=method.moves_atoms, ideal_images=_IDEAL_IMAGES)
    return evaluate.plain(score(run, read_truth(data / "truth.npz"), settings))


def _report(folder: Path) -> None:
    from kinesphere.analysis.run_agreement import compare_runs
    from kinesphere.analysis.statement import state
    from kinesphere.analysis.summary import analyse
    from kinesphere.analysis.tables import write_analysis
    from kinesphere.report.page import write_report
    from kinesphere.runs.first_half import one_latent_space

    main, beside = folder / SEGMENTS, folder / FIELD
    _say(f"  kinesphere report {main} --beside {beside}")
    finished = one_latent_space(load(main))
    analysis = analyse(finished, AnalysisSettings())
    write_analysis(finished, analysis, main / "analysis")
    other = load(beside)
    write_report(
        finished,
        analysis,
        folder / REPORT_FILE,
        compare_runs(finished, analysis, other, other.with_model),
    )
    _say(f"  {state(analysis).headline}")


def _scores_table(scores: dict[str, dict[str, Any]]) -> Table:
    """One column a method, then what they compare with."""
    caption = (
        "The ideal observer knows every state there is, and nothing but the noise is in its way."
    )
    table = Table(
        title="How well the truth was recovered", caption=caption, box=None, padding=(0, 1, 0, 1)
    )
    table.title_justify = table.caption_justify = "left"
    for heading in ("", *scores, "unmoved", "ideal observer"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    first = next(iter(scores.values()))
    errors = (*(found["ca_rmsd_median"] for found in scores.values()), first["still_rmsd_median"])
    table.add_row(
        "Cα error, median", *(f"{e:.2f} Å" for e in (*errors, first["ideal_ca_rmsd_median"]))
    )
    r = [f"{found['r_main_motion']:.3f}" for found in scores.values()]
    table.add_row("r along the true motion", *r, "–", f"{first['ideal_r_main_motion']:.3f}")
    return table
