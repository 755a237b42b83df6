"""Reconstruct the density, each image along its own motion: half maps, a map and their FSC."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from kinesphere import load
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.runtime import console, set_threads


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(ReconstructionSettings):
    """Options of `kinesphere reconstruct`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    out: Path | None = None
    """Folder for the results; none: RUN/reconstruction."""
    threads: int | None = None
    """CPU threads; none: all."""


def run(options: ReconstructOptions) -> None:
    """Write the maps and say what the motion brought."""
    from kinesphere.ranks import joined
    from kinesphere.reconstruction.job import reconstruct

    set_threads(options.threads)
    settings = ReconstructionSettings(
        **{f.name: getattr(options, f.name) for f in fields(ReconstructionSettings)}
    )
    folder = options.out or options.run / "reconstruction"
    with joined() as ranks:
        summary = reconstruct(load(options.run), settings, folder, ranks)
    for sentence in statement(summary):
        console.print(sentence, highlight=False)
    console.print(f"Maps, mask and FSC are in {folder}.", highlight=False)


def statement(summary: dict[str, Any]) -> list[str]:
    """Say in sentences what a summary holds."""
    first, second = summary["n_particles"]
    nyquist = 2.0 * summary["pixel_size_angstrom"]
    now, before = (
        f"{found:.2f} Å" if found > 1.001 * nyquist else f"{nyquist:.2f} Å (Nyquist)"
        for found in (summary["resolution_angstrom"], summary["resolution_without_motion_angstrom"])
    )
    local = summary["local_resolution_angstrom"]
    sentences = [f"Half sets of {first} and {second} particles, box {summary['box_px']} px."]
    if summary["homogeneous"]:
        sentences.append(f"Resolution without motion (FSC 0.143 in the mask, corrected): {before}.")
    else:
        means = f"mean FSC {summary['mean_fsc_without_motion']:.3f} and {summary['mean_fsc']:.3f}"
        sentences.append(
            f"Resolution (FSC 0.143): {before} without motion, {now} with it; {means}."
        )
    spread = (
        f"{local['best_tenth']:.1f} to {local['worst_tenth']:.1f} Å, median {local['median']:.1f} Å"
    )
    sentences.append(f"Local resolution: {spread}.")
    if summary["motion_is_shared"]:
        sentences.append(
            "One motion model saw both half sets: what it fitted to noise, both maps share. "
            "A run trained with --halves keeps them apart."
        )
    return sentences
