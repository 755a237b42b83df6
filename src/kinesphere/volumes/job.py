"""From a finished run to volumes on its latent space: places, volumes of both half sets, their FSC,
files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from kinesphere import kernels
from kinesphere.io.mrc import DensityMap, write_map
from kinesphere.reconstruction.fsc import mean_fsc
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.runs.finished_run import RunWithImages
from kinesphere.runs.halves import HALVES
from kinesphere.runtime import atomic_write, claimed, console, interrupts
from kinesphere.volumes.maker import Volume, VolumeMaker
from kinesphere.volumes.options import VolumeMethod, VolumeSettings
from kinesphere.volumes.structure_volumes import ResidueAgreement, summarise, write_residues
from kinesphere.volumes.targets import choose_targets

SUMMARY = "volumes.json"
_COLUMNS = (
    "name",
    "resolution_angstrom",
    "mean_fsc",
    "mean_fsc_alone",
    "mean_fsc_of_difference",
    "mean_fsc_with_structures",
    "difference_correlation_with_structures",
)
_CURVES = (
    "name",
    "resolution_angstrom",
    "half_sets",
    "half_sets_alone",
    "half_sets_of_difference",
    "with_structures",
)


def make_volumes(run: RunWithImages, settings: VolumeSettings, folder: Path) -> dict[str, Any]:
    """Make volumes on the latent space of a run from its images, poses and latents; the structures
    have no part in it.

    Parameters
    ----------
    run
        The finished run.
    settings
        Where, and how.
    folder
        For the results. A finished folder of the same settings and run is left as it is.

    Returns
    -------
    dict
        The summary, as in `volumes.json`.

    Raises
    ------
    InputError
        If something the user gave cannot be used; nothing is written then.
    """
    settings.require_sensible()
    problem = pose_problem(run, ReconstructionSettings(seed=settings.seed))
    targets = choose_targets(run, problem, settings)
    text = json.dumps(asdict(settings), sort_keys=True) + problem.fingerprint
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    known = read_summary(folder)
    if known is not None and known["fingerprint"] == fingerprint:
        console.print(f"{folder} holds these volumes already.", highlight=False)
        return known
    kernels.warm_up(console.print)
    with claimed(folder), interrupts() as flag:
        (folder / SUMMARY).unlink(missing_ok=True)
        for stale in (*folder.glob("kernel_[0-9]*.mrc"), *folder.glob("decoder_[0-9]*.mrc")):
            stale.unlink()  # of other settings, perhaps more of them
        maker = VolumeMaker(run, problem, folder, lambda _: flag.raise_if_requested())
        made = {
            method: _make(maker, targets, settings, method, folder) for method in settings.methods
        }
        summary: dict[str, Any] = {
            "volumes": [row for each in made.values() for row in each.rows],
            "residues": {method: summarise(each.residues) for method, each in made.items()},
            "settings": asdict(settings),
            "fingerprint": fingerprint,
        }
        if "decoder" in made:
            decoders = [maker.decoder(half) for half in HALVES]
            summary["decoder"] = {
                "gain_nats": [decoder.gain for decoder in decoders],
                "gain_error_nats": [decoder.gain_error for decoder in decoders],
            }
        if len(made) > 1:
            pairs = zip(*(each.volumes for each in made.values()), strict=True)
            summary["difference_correlation_of_methods"] = [
                maker.correlate(one.difference, other.difference) for one, other in pairs
            ]
        write_residues(
            folder / "residues.csv",
            run.model,
            {method: each.residues for method, each in made.items()},
        )
        _write_table(folder / "volumes.csv", summary["volumes"], _COLUMNS)
        _write_table(
            folder / "fsc.csv", [curve for each in made.values() for curve in each.curves], _CURVES
        )
        with atomic_write(folder / SUMMARY) as temporary:
            temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


@dataclass(frozen=True, eq=False)
class _Made:
    """The volumes of one method, and what is reported of them."""

    volumes: list[Volume]
    rows: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    residues: ResidueAgreement


def _make(
    maker: VolumeMaker,
    targets: Mapping[int, Float[np.ndarray, "m d"]],
    settings: VolumeSettings,
    method: VolumeMethod,
    folder: Path,
) -> _Made:
    """Make and write the volumes of one method at all places."""
    volumes = []
    implied = []
    rows = []
    curves = []
    for number in range(len(targets[1])):
        name = f"{method}_{number + 1:02d}"
        places = {half: targets[half][number] for half in HALVES}
        volume = maker.at(places, method, settings.fraction)
        console.print(f"Made {name}", highlight=False)
        expected = maker.implied(volume)
        _write_maps(volume, name, folder, maker.problem.frame)
        with_structures = maker.fsc(volume.merged, expected.density)
        row = {
            "name": name,
            "method": method,
            "resolution_angstrom": volume.curves.resolution_angstrom,
            "mean_fsc": mean_fsc(volume.curves.corrected),
            "mean_fsc_alone": mean_fsc(volume.alone.corrected),
            "mean_fsc_of_difference": mean_fsc(volume.differences.corrected),
            "mean_fsc_with_structures": mean_fsc(with_structures),
            "difference_correlation_with_structures": maker.correlate(
                volume.difference, expected.difference
            ),
            "target": [places[half].tolist() for half in HALVES],
        }
        if method == "kernel":
            row["n_effective"] = [kernel.n_effective for kernel in volume.near]
            row["bandwidth"] = [kernel.bandwidth for kernel in volume.near]
        volumes.append(volume)
        implied.append(expected)
        rows.append(row)
        curves += _curve_rows(name, volume, with_structures, maker.problem.grid.pixel_size_angstrom)
    return _Made(volumes, rows, curves, maker.follow_structures(volumes, implied))


def _write_maps(volume: Volume, name: str, folder: Path, frame: DensityMap) -> None:
    for suffix, density in zip(
        ("_half1", "_half2", ""), (*volume.half_maps, volume.merged), strict=True
    ):
        write_map(folder / f"{name}{suffix}.mrc", density, frame)


def _curve_rows(
    name: str, volume: Volume, with_structures: Float[np.ndarray, " shells"], pixel: float
) -> list[dict[str, Any]]:
    """One row a shell: FSC of the half sets, of their differences from the consensus, and with the
    structures.
    """
    box = volume.merged.shape[0]
    return [
        {
            "name": name,
            "resolution_angstrom": box * pixel / shell,
            "half_sets": volume.curves.corrected[shell],
            "half_sets_alone": volume.alone.corrected[shell],
            "half_sets_of_difference": volume.differences.corrected[shell],
            "with_structures": with_structures[shell],
        }
        for shell in range(1, len(with_structures))
    ]


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Read what `make_volumes` found; none where it has not finished.

    Parameters
    ----------
    folder
        Its folder.

    Returns
    -------
    dict or None
        As in `volumes.json`.
    """
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if "fingerprint" in summary else None


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row[c] if isinstance(row[c], str) else f"{row[c]:.5f}" for c in columns])
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
