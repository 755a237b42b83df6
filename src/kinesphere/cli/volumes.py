"""Make volumes on the latent space from the images near each place, without the structures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from kinesphere import load
from kinesphere.runtime import console, set_threads
from kinesphere.volumes.options import VolumeSettings


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
    from kinesphere.volumes.job import make_volumes

    set_threads(options.threads)
    settings = VolumeSettings(**{f.name: getattr(options, f.name) for f in fields(VolumeSettings)})
    folder = options.out or options.run / "volumes"
    summary = make_volumes(load(options.run), settings, folder)
    console.print(
        "volume       FSC 0.143 (Å)   mean FSC   with structures: FSC   change", highlight=False
    )
    for row in summary["volumes"]:
        numbers = (
            f"{row['resolution_angstrom']:14.2f} {row['mean_fsc']:10.3f} "
            f"{row['mean_fsc_with_structures']:22.3f}"
        )
        console.print(
            f"{row['name']:<12} {numbers} {row['difference_correlation_with_structures']:8.2f}",
            highlight=False,
        )
    if "decoder" in summary:
        console.print(_about_decoder(summary["decoder"]), highlight=False)
    if "difference_correlation_of_methods" in summary:
        console.print(_about_methods(summary["difference_correlation_of_methods"]), highlight=False)
    for method, residues in summary["residues"].items():
        console.print(_about_structures(method, residues), highlight=False)
    console.print(f"Half maps and maps are in {folder}.", highlight=False)


def _about_decoder(found: dict[str, list[float]]) -> str:
    """Say what the decoder is worth in images it has not seen."""
    gains = " and ".join(
        f"{gain:.2f} ± {error:.2f}"
        for gain, error in zip(found["gain_nats"], found["gain_error_nats"], strict=True)
    )
    return (
        f"In images that they have not seen, the decoders of the half sets gain {gains} "
        "nats an image over one map."
    )


def _about_methods(correlation: list[float]) -> str:
    """Say whether the two ways to make volumes agree."""
    numbers = " ".join(f"{value:.2f}" for value in correlation)
    return f"Changes from the consensus, kernel against decoder, correlate by {numbers}."


def _about_structures(method: str, residues: dict[str, Any]) -> str:
    """Say whether the density follows the structures."""
    if residues["n_moving"] == 0:
        return (
            f"Structures, {method}: no residue moves by more than 1 Å between these "
            "volumes: nothing to compare."
        )
    return (
        f"Structures, {method}: where they move by more than 1 Å, densities change as they do "
        "with a correlation of "
        f"{residues['correlation_moving_median']:.2f} (median of {residues['n_moving']} "
        "residues); for "
        f"{residues['n_moving_unsupported']} it is below 0.5: there the motion may be the "
        "model's doing (residues.csv)."
    )
