"""What the motion brought to the map, from the files of `kinesphere reconstruct`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def sharpness(run: Path, method: str) -> dict[str, Any] | None:
    """Read the FSC curves of a finished reconstruction.

    Parameters
    ----------
    run
        The run folder.
    method
        What found the motion.

    Returns
    -------
    dict
        Spatial frequencies (1/Å), curves with and without motion, and a sentence; nothing where
        there is no reconstruction, or one that left the motion out.
    """
    folder = run / "reconstruction"
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        table = np.genfromtxt(folder / "fsc.csv", delimiter=",", names=True)
    except (OSError, ValueError):
        return None
    if summary["homogeneous"]:
        return None
    return {
        "frequency": (1.0 / table["resolution_angstrom"]).tolist(),
        "still": table["corrected_without_motion"].tolist(),
        "moved": table["corrected"].tolist(),
        "sentence": _sentence(summary, method),
    }


def _sentence(summary: dict[str, Any], method: str) -> str:
    nyquist = 2.0 * summary["pixel_size_angstrom"]

    def resolution(name: str) -> str:
        value = summary[name]
        return (
            f"{value:.1f} Å"
            if value > 1.001 * nyquist
            else f"{nyquist:.1f} Å, the limit of the pixels"
        )

    before, after = (
        resolution("resolution_without_motion_angstrom"),
        resolution("resolution_angstrom"),
    )
    how = (
        f"least squares, {summary['iterations']} iterations"
        if summary["iterations"]
        else "filtered backprojection"
    )
    shared = (
        " One motion model saw both half sets, so that part of what they share may be fitted noise."
        if summary["motion_is_shared"]
        else " Neither images nor motion models are shared by the two half sets."
    )
    fsc = f"mean FSC {summary['mean_fsc_without_motion']:.2f} and {summary['mean_fsc']:.2f}"
    return (
        f"Each image was put back along its own motion, as {method} found it ({how}). "
        "Resolution where the half maps "
        f"agree to FSC 0.143: {before} without the motion, {after} with it; {fsc}.{shared}"
    )
