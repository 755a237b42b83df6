"""Invert the motion of a field run: how exactly that goes, and the map in any image's state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from kinesphere import load
from kinesphere.errors import InputError
from kinesphere.progress_bar import progress_bar
from kinesphere.runtime import atomic_write, console, set_threads

_MARGIN_ANGSTROM = 6.0


@dataclass(frozen=True)
class InvertOptions:
    """Options of `kinesphere invert`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished field run."""
    n_images: int = 50
    """Images whose round trip is measured, evenly drawn."""
    images: str | None = None
    """Also write the consensus map in the states of these rows of the particle file, counted from
    0, as in 3,7,12."""
    threads: int | None = None
    """CPU threads; none: all."""


def run(options: InvertOptions) -> None:
    """Measure the round trip, and write RUN/inverse/."""
    import numpy as np

    from kinesphere.analysis.ensemble import sample_images
    from kinesphere.analysis.structures import choose_images
    from kinesphere.io.mrc import write_map
    from kinesphere.runs.round_trip import map_in_state, measure_round_trip

    if options.n_images < 1:
        raise InputError("--n-images", f"{options.n_images} is too few", "Give one or more")
    set_threads(options.threads)
    finished = load(options.run)
    density, solid, inside = finished.consensus()
    wanted = (
        [] if options.images is None else choose_images(finished, None, options.images).tolist()
    )
    rows = sample_images(len(finished.latents.index), 1, seed=0, limit=options.n_images)
    with progress_bar("Round trips", len(rows)) as advance:
        trip = measure_round_trip(finished, solid.voxels()[0], rows, advance)
    folder = options.run / "inverse"
    folder.mkdir(exist_ok=True)
    summary = {
        "n_images": len(rows),
        "n_points": len(trip.points),
        "median_angstrom": trip.median,
        "percentile_99_angstrom": trip.percentile_99,
    }
    with atomic_write(folder / "round_trip.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    console.print(
        f"Round trip |Γ⁻¹(Γ(x)) − x| of {len(trip.points)} points in {len(rows)} images: "
        f"median {trip.median:.3f} Å, "
        f"99th percentile {trip.percentile_99:.3f} Å.",
        highlight=False,
    )
    for row in wanted:
        path = folder / f"state_of_image_{int(np.asarray(finished.latents.index)[row])}.mrc"
        write_map(path, map_in_state(finished, density, inside, row, _MARGIN_ANGSTROM), density)
        console.print(
            f"Wrote the consensus map in the state of that image to {path}.", highlight=False
        )
