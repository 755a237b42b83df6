"""From a finished run to half maps, a map, its mask, FSC and local resolution in a folder."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from jaxtyping import Float
from numpy.typing import NDArray

from kinesphere import kernels
from kinesphere.io.mrc import write_map
from kinesphere.progress_bar import step_progress
from kinesphere.ranks import ALONE, Ranks
from kinesphere.reconstruction.backprojection import blend_weight
from kinesphere.reconstruction.fourier_volume import shell_of_volume
from kinesphere.reconstruction.fsc import FscCurves, half_map_fsc, local_resolution, mean_fsc
from kinesphere.reconstruction.half import HalfCheckpoints, HalfMaps, reconstruct_half
from kinesphere.reconstruction.masks import automatic_mask
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import (
    Problem,
    pose_problem,
)
from kinesphere.runs.finished_run import RunWithImages
from kinesphere.runs.halves import HALVES
from kinesphere.runtime import atomic_write, claimed, console, interrupts

_SUMMARY = "summary.json"
_SMALLEST_FSC = 0.1
_SMALLEST_SHARE_OF_SUPPORT = 0.1


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a reconstruction comes to.

    Parameters
    ----------
    density
        (n, n, n) mean of the half maps, filtered by their FSC.
    mask
        (n, n, n) in which the FSC was taken.
    curves
        FSC of the half maps.
    before
        FSC of the half maps without motion, in the same mask.
    local
        (n, n, n) local resolution in Å, zero outside the mask.
    """

    density: Float[np.ndarray, "n n n"]
    mask: Float[np.ndarray, "n n n"]
    curves: FscCurves
    before: FscCurves
    local: Float[np.ndarray, "n n n"]


def reconstruct(
    run: RunWithImages, settings: ReconstructionSettings, folder: Path, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Reconstruct a run's particles with the motion that it found.

    Parameters
    ----------
    run
        The finished run.
    settings
        How.
    folder
        Where results go; interrupted work there is continued, other results are replaced.
    ranks
        Who shares the images of each half set; the first alone writes.

    Returns
    -------
    dict
        The summary, as in `summary.json`.

    Raises
    ------
    InputError
        If something the user gave cannot be used; nothing is written then.
    """
    problem = pose_problem(run, settings)
    known = ranks.from_first(lambda: _read_summary(folder))
    if known is not None and known["fingerprint"] == problem.fingerprint:
        console.print(f"{folder} holds this reconstruction already.", highlight=False)
        return known
    kernels.warm_up(console.print)
    with claimed(folder), interrupts() as flag:
        halves = []
        for half in HALVES:
            kept_in = folder / "checkpoints" / f"half{half}"
            checkpoints = HalfCheckpoints(kept_in, problem.fingerprint, writes=ranks.is_first)
            with step_progress(f"half {half}") as progress:
                halves.append(reconstruct_half(problem, half, checkpoints, flag, progress, ranks))
        return ranks.from_first(lambda: _conclude(folder, problem, halves))


def _conclude(folder: Path, problem: Problem, halves: list[HalfMaps]) -> dict[str, Any]:
    """Make one map of the half maps, and write everything."""
    result = combine(problem, halves[0], halves[1])
    summary = _summary(problem, result)
    _write(folder, problem, halves, result, summary)
    return summary


def combine(problem: Problem, first: HalfMaps, second: HalfMaps) -> Reconstruction:
    """Compare the half maps, and add them up to one map, Wiener-filtered by what the comparison
    says.

    With C the corrected FSC of the halves, each shell of their mean is multiplied by √(2C / (1 +
    C)), its correlation with the truth (Rosenthal & Henderson 2003, doi:10.1016/j.jmb.2003.07.013).
    """
    pixel = problem.grid.pixel_size_angstrom
    seed = problem.settings.seed
    mean = 0.5 * (first.moved + second.moved)
    mask = _mask(mean, problem)
    curves = half_map_fsc(first.moved, second.moved, mask, pixel, seed)
    before = half_map_fsc(first.homogeneous, second.homogeneous, mask, pixel, seed)
    local = local_resolution(first.moved, second.moved, mask, pixel)
    return Reconstruction(filter_by_fsc(mean, curves.corrected), mask, curves, before, local)


def _mask(density: NDArray[np.float32], problem: Problem) -> NDArray[np.float32]:
    """Take the user's mask, else one from the map within the support.

    Where next to nothing stands out from the noise, the support itself is taken: in a few voxels,
    any two maps agree.
    """
    if problem.mask is not None:
        return problem.mask
    support = blend_weight(problem.support)
    mask = automatic_mask(density, problem.grid.pixel_size_angstrom) * support
    is_sensible = (mask > 0.5).sum() > _SMALLEST_SHARE_OF_SUPPORT * problem.support.n_voxels
    return mask if is_sensible else support


def filter_by_fsc(density: NDArray[np.float32], fsc: NDArray[np.float64]) -> NDArray[np.float32]:
    """Filter by √(2C / (1 + C)); C counts as 0.1 where it is below, so that nothing is cut off for
    good.
    """
    box = density.shape[0]
    known = np.clip(fsc, _SMALLEST_FSC, 1.0)
    gain = np.append(np.sqrt(2.0 * known / (1.0 + known)), 0.0)[
        np.minimum(shell_of_volume(box, box), box // 2)
    ]
    filtered: NDArray[np.float64] = scipy.fft.irfftn(
        scipy.fft.rfftn(density) * gain, s=density.shape
    )
    return filtered.astype(np.float32)


def _summary(problem: Problem, result: Reconstruction) -> dict[str, Any]:
    local = result.local[result.mask > 0.5]
    return {
        "resolution_angstrom": result.curves.resolution_angstrom,
        "resolution_without_motion_angstrom": result.before.resolution_angstrom,
        "local_resolution_angstrom": {
            "best_tenth": float(np.percentile(local, 10)),
            "median": float(np.median(local)),
            "worst_tenth": float(np.percentile(local, 90)),
        },
        "mean_fsc": mean_fsc(result.curves.corrected),
        "mean_fsc_without_motion": mean_fsc(result.before.corrected),
        "n_particles": [len(problem.rows(half)) for half in HALVES],
        "box_px": problem.grid.box,
        "pixel_size_angstrom": problem.grid.pixel_size_angstrom,
        "iterations": problem.settings.iterations,
        "homogeneous": problem.settings.homogeneous,
        "motion_is_shared": problem.motion_is_shared,
        "mask_voxels": int((result.mask > 0.5).sum()),
        "support_voxels": problem.support.n_voxels,
        "fingerprint": problem.fingerprint,
    }


def _read_summary(folder: Path) -> dict[str, Any] | None:
    """Summary of a finished reconstruction; none where there is none, or it cannot be read."""
    try:
        summary: dict[str, Any] = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if "fingerprint" in summary else None


def _write(
    folder: Path,
    problem: Problem,
    halves: list[HalfMaps],
    result: Reconstruction,
    summary: dict[str, Any],
) -> None:
    """Write the results; the summary, which says that they are complete, comes last."""
    (folder / _SUMMARY).unlink(missing_ok=True)
    for number, maps in zip(HALVES, halves, strict=True):
        write_map(folder / f"half{number}.mrc", maps.moved, problem.frame)
    write_map(folder / "map.mrc", result.density, problem.frame)
    write_map(folder / "mask.mrc", result.mask, problem.frame)
    write_map(folder / "local_resolution.mrc", result.local, problem.frame)
    _write_fsc(folder / "fsc.csv", result)
    with atomic_write(folder / _SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _write_fsc(path: Path, result: Reconstruction) -> None:
    curves = result.curves
    columns = {
        "unmasked": curves.unmasked,
        "masked": curves.masked,
        "randomised": curves.randomised,
        "corrected": curves.corrected,
        "corrected_without_motion": result.before.corrected,
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["shell", "resolution_angstrom", *columns])
    for shell in range(1, len(curves.masked)):
        values = (f"{column[shell]:.5f}" for column in columns.values())
        writer.writerow([shell, f"{curves.field_of_view_angstrom / shell:.4f}", *values])
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
