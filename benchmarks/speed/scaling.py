"""How speed and memory grow with the box, the molecule, the batch and the number of images, phase
by phase.

    python benchmarks/speed/scaling.py

Every point is a process of its own (scaling_point.py) on one thread; memory is the most that was
resident at once (VmHWM). One size is varied at a time, the others stay at 64 px, 1,000 points,
batches of 64 and 192 images; points vary in 128 px, so that 8,000 of them fit, images in 32 px with
200 points. Writes results/scaling.csv and scaling.md with exponents p of cost ∝ sizeᵖ.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py and process.py
from bench import RESULTS, Row, markdown, write_csv
from process import ProcessError, exponent, measure

PHASES = ("observe", "segments", "field", "infer", "reconstruct")
_USUAL = {"box": 64, "points": 1000, "batch": 64, "images": 192}
SIZES = {
    "box": (32, 64, 128, 192),
    "points": (200, 1000, 3000, 8000),
    "batch": (8, 32, 128, 256),
    "images": (500, 2000, 8000),
}
QUICK = {"box": (32, 64), "points": (200, 1000), "batch": (32, 128), "images": (500, 2000)}
_OTHER_SIZES = {
    "points": {"box": 128},
    "batch": {"images": 256},
    "images": {"box": 32, "points": 200},
}
_TOLERANCE = 0.1  # of an exponent: what noise and caches make of a straight line
_DOES_NOT_DEPEND = {("observe", "points"), ("observe", "batch"), ("reconstruct", "batch")}
COLUMNS = (
    "phase",
    "axis",
    "from",
    "to",
    "cpu_exponent",
    "memory_from_gb",
    "memory_to_gb",
    "memory_exponent",
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    phases: tuple[str, ...] = PHASES
    """Phases."""
    axes: tuple[str, ...] = tuple(SIZES)
    """Sizes to vary."""
    quick: bool = False
    """Two small sizes an axis only."""
    name: str = "scaling"
    """Name of the tables."""


def main(options: Options) -> None:
    """Measure every point; the tables are rewritten after each phase and axis."""
    sizes = QUICK if options.quick else SIZES
    rows: list[Row] = []
    for axis in options.axes:
        for phase in options.phases:
            if (phase, axis) not in _DOES_NOT_DEPEND:
                rows += points(phase, axis, sizes[axis])
                write_csv(RESULTS / f"{options.name}.csv", rows)
    table = describe(rows)
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def points(phase: str, axis: str, sizes: Sequence[int]) -> Iterator[Row]:
    """Measure one phase along one axis."""
    for size in sizes:
        chosen = {**_USUAL, **_OTHER_SIZES.get(axis, {}), axis: size}
        row: Row = {"phase": phase, "axis": axis, "size": size, **chosen}
        try:
            row |= point(phase, chosen)
            print(
                f"{phase} {axis} {size}: {row['images_per_second']:.4g} images/s, "
                f"{row['peak_gb']:.3g} GB",
                flush=True,
            )
            yield row
        except ProcessError as error:
            print(f"{phase} {axis} {size}: {error}", file=sys.stderr, flush=True)


def point(phase: str, sizes: dict[str, int]) -> Row:
    """Measure one point in a process of its own."""
    script = Path(__file__).with_name("scaling_point.py")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "point.json"
        words = [word for key, value in sizes.items() for word in (f"--{key}", str(value))]
        used = measure(
            [sys.executable, script, "--phase", phase, *words, "--out", out], Path(folder) / "log"
        )
        found = json.loads(out.read_text())
    pass_seconds = sizes["images"] / found["images_per_second"]
    return {**found, "cpu_seconds_a_pass": pass_seconds, "peak_gb": used.peak_gb}


def fitted(rows: Sequence[Row]) -> list[Row]:
    """Fit exponents of cost and memory against size, for each phase and axis.

    The cost is that of an image along box and points; of a pass along images and of a step along
    batch, so that an exponent of one means the same cost for every image.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["phase"], row["axis"]), []).append(row)
    return [_fit(group) for group in groups.values()]


def _fit(group: Sequence[Row]) -> Row:
    sizes = [float(row["size"]) for row in group]
    memory = [float(row["peak_gb"]) for row in group]
    per_image = [1.0 / float(row["images_per_second"]) for row in group]
    together = group[0]["axis"] in {"images", "batch"}
    costs = [cost * size if together else cost for cost, size in zip(per_image, sizes, strict=True)]
    return {
        "phase": group[0]["phase"],
        "axis": group[0]["axis"],
        "from": group[0]["size"],
        "to": group[-1]["size"],
        "cpu_exponent": exponent(sizes, costs),
        "memory_from_gb": memory[0],
        "memory_to_gb": memory[-1],
        "memory_exponent": exponent(sizes, memory),
    }


def findings(rows: Sequence[Row]) -> list[str]:
    """Say whether cost is at most linear in images and in the molecule, and memory flat in images.

    Parameters
    ----------
    rows
        Measured points.

    Returns
    -------
    list
        A sentence for each expectation that was measured, with the largest departure.
    """
    fits = fitted(rows)
    images, molecule = (
        [fit for fit in fits if fit["axis"] == axis] for axis in ("images", "points")
    )
    said = []
    if images:
        powers = [fit["cpu_exponent"] for fit in images]
        how = f"exponents {min(powers):.2f} to {max(powers):.2f}"
        said.append(f"Cost grows {_faster(max(powers))} than the number of images: {how}.")
    if molecule:
        steepest = max(molecule, key=lambda fit: fit["cpu_exponent"])
        how = f"exponent {steepest['cpu_exponent']:.2f} at most, of {steepest['phase']}"
        said.append(
            f"Cost grows {_faster(steepest['cpu_exponent'])} than the residues or Gaussians: {how}."
        )
    if images:
        steepest = max(images, key=_bytes_an_image)
        grown = steepest["memory_to_gb"] - steepest["memory_from_gb"]
        span = (
            f"{grown:+.2f} GB from {steepest['from']:,} to {steepest['to']:,} images at "
            f"most, of {steepest['phase']}"
        )
        said.append(f"Peak memory changes by {span}.")
    return said


def _faster(power: float) -> str:
    return "no faster" if power <= 1.0 + _TOLERANCE else "faster"


def _bytes_an_image(fit: Row) -> float:
    return 1e9 * (fit["memory_to_gb"] - fit["memory_from_gb"]) / (fit["to"] - fit["from"])


def describe(rows: Sequence[Row]) -> str:
    """Write exponents and points as Markdown."""
    head = (
        f"{platform.machine()}, one thread, CPU-seconds, a process a point: `python "
        "benchmarks/speed/scaling.py`."
    )
    what = (
        "Exponents p of cost ∝ sizeᵖ: of an image along box and points, of a pass along "
        "images, of a step along batch."
    )
    every = (
        "phase",
        "axis",
        "size",
        "box",
        "points",
        "batch",
        "images",
        "images_per_second",
        "peak_gb",
    )
    listed = "".join(f"- {sentence}\n" for sentence in findings(rows))
    return f"{head}\n{what}\n\n{listed}\n{markdown(fitted(rows), COLUMNS)}\n{markdown(rows, every)}"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
