"""Make volumes on the latent space from the images near each place, independent of the structures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from kinesphere import load
from kinesphere.analysis.volumes import VolumeSettings, make_volumes
from kinesphere.runtime import console, set_threads


@dataclass(frozen=True, kw_only=True)
class VolumesOptions(VolumeSettings):
    """Options of `kinesphere volumes`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    out: Path | None = None
    """Folder for the results; none: RUN/volumes."""
    threads: int | None = None
    """CPU threads; none: all."""


def run(options: VolumesOptions) -> None:
    """Write the volumes and say how well the half sets agree."""
    set_threads(options.threads)
    settings = VolumeSettings(**{f.name: getattr(options, f.name) for f in fields(VolumeSettings)})
    folder = options.out or options.run / "volumes"
    summary = make_volumes(load(options.run), settings, folder)
    console.print("volume     effective images   FSC 0.143 (Å)   mean FSC", highlight=False)
    for row in summary["volumes"]:
        first, second = row["n_effective"]
        numbers = f"{first:8.0f} + {second:<7.0f} {row['resolution_angstrom']:13.2f} {row['mean_fsc']:10.3f}"
        console.print(f"{row['name']:<10} {numbers}", highlight=False)
    console.print(_about(summary["residues"]), highlight=False)
    console.print(f"Half maps and maps are in {folder}.", highlight=False)


def _about(residues: dict[str, Any]) -> str:
    """Say whether the density follows the structures."""
    if residues["n_moving"] == 0:
        return "No residue moves by more than 1 Å between these volumes: there is no change to compare."
    return (
        f"Where structures move by more than 1 Å, densities change as they do with a correlation of "
        f"{residues['correlation_moving_median']:.2f} (median of {residues['n_moving']} residues); for "
        f"{residues['n_moving_unsupported']} it is below 0.5: there the motion may be the model's doing (residues.csv)."
    )
