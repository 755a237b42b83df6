"""One half set from images to maps, in steps that an interrupt may divide: sums, iterations,
maps.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from kinesphere.io.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from kinesphere.progress_bar import StepProgress
from kinesphere.ranks import ALONE, Ranks
from kinesphere.reconstruction.backprojection import (
    HalfSums,
    Sweep,
    accumulate,
    blend_weight,
    deformed_map,
    homogeneous_map,
)
from kinesphere.reconstruction.fourier_volume import FourierVolume
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.least_squares import (
    NormalEquations,
    ShellPrior,
    SolverState,
    restore_amplitudes,
    solve,
)
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.problem import Problem
from kinesphere.runtime import InterruptedRunError, Interrupts

_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_LARGEST_SHARE_OF_CHECKPOINTS = 0.05
_IMAGES_AT_ONCE = 64
_SUMS = "sums"
_SOLVER = "solver"
_MAPS = "maps"


@dataclass(frozen=True, eq=False)
class HalfMaps:
    """Result of one half set: (n, n, n) float32 maps `[z, y, x]`, neither masked nor filtered.

    Parameters
    ----------
    moved
        Of the reference state, with the motion taken into account (unless it was to be left out).
    homogeneous
        As if nothing moved.
    """

    moved: Float[np.ndarray, "n n n"]
    homogeneous: Float[np.ndarray, "n n n"]


@dataclass(frozen=True)
class HalfCheckpoints:
    """What is kept of a half set between steps; of another reconstruction's checkpoints nothing is
    used.

    Parameters
    ----------
    folder
        Where they are.
    fingerprint
        Of the problem.
    writes
        Whether this process writes them.
    """

    folder: Path
    fingerprint: str
    writes: bool = True

    def save(self, step: str, arrays: dict[str, np.ndarray], **values: float) -> None:
        """Write the state of a step."""
        if not self.writes:
            return
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        save_checkpoint(
            self.folder / step, step, tensors, {"fingerprint": self.fingerprint, **values}
        )

    def load(self, step: str) -> tuple[dict[str, np.ndarray], dict[str, float]] | None:
        """Read the state of a step; None where there is none of this problem."""
        if not has_checkpoint(self.folder / step):
            return None
        tensors, values = load_checkpoint(self.folder / step)
        if values.pop("fingerprint") != self.fingerprint:
            return None
        return {name: tensor.numpy() for name, tensor in tensors.items()}, values

    def drop(self, step: str) -> None:
        """Remove the state of a step that is not needed any more."""
        if self.writes:
            shutil.rmtree(self.folder / step, ignore_errors=True)


def reconstruct_half(
    problem: Problem,
    half: int,
    checkpoints: HalfCheckpoints,
    flag: Interrupts,
    progress: StepProgress,
    ranks: Ranks = ALONE,
) -> HalfMaps:
    """Reconstruct one half set, or go on where it was left.

    Parameters
    ----------
    problem
        What to reconstruct.
    half
        1 or 2. No image of the other half set is looked at.
    checkpoints
        Where to keep what is done.
    flag
        Raised by an interrupt: then what is done is saved, and `InterruptedRunError` leaves.
    progress
        Told how far it is.
    ranks
        Who shares the images.

    Returns
    -------
    HalfMaps
    """
    kept = ranks.from_first(lambda: checkpoints.load(_MAPS))
    if kept is not None:
        return HalfMaps(kept[0]["moved"], kept[0]["homogeneous"])
    rows = problem.rows(half)
    power = ranks.from_first(
        lambda: noise_power(problem.particles, problem.loader, rows, _IMAGES_AT_ONCE)
    )
    images = WeightedImages(problem.particles, problem.loader, power)
    sweep = Sweep(images, rows, DeformedProjector(problem.support), problem.motion, ranks)
    sums = _sum_up(sweep, checkpoints, flag, progress)
    moved = deformed_map(sums, problem.support)
    if problem.settings.iterations:
        moved = _least_squares(moved, sweep, sums, problem, checkpoints, flag, progress)
    maps = HalfMaps(moved.astype(np.float32), homogeneous_map(sums).astype(np.float32))
    checkpoints.save(_MAPS, {"moved": maps.moved, "homogeneous": maps.homogeneous})
    checkpoints.drop(_SUMS)
    checkpoints.drop(_SOLVER)
    return maps


def _sum_up(
    sweep: Sweep, checkpoints: HalfCheckpoints, flag: Interrupts, progress: StepProgress
) -> HalfSums:
    """Sweep once over the images."""
    ranks = sweep.ranks
    sums = HalfSums.empty(sweep.projector.support)
    kept = checkpoints.load(_SUMS) if ranks.is_first else None
    if kept is not None:
        arrays, values = kept
        sums = HalfSums(
            FourierVolume(sums.volume.box, arrays["sums"]),
            arrays["pulled"],
            int(values["n_images"]),
        )
    sums.n_images = before = ranks.broadcast(sums.n_images)
    due = time.monotonic() + _SECONDS_BETWEEN_CHECKPOINTS

    def save() -> None:
        arrays = {"sums": sums.volume.sums, "pulled": sums.pulled}
        checkpoints.save(_SUMS, arrays, n_images=float(sums.n_images))

    def after_batch() -> None:
        nonlocal due
        progress("Backprojecting", sums.n_images, len(sweep.rows))
        started = time.monotonic()
        asked, late = ranks.largest(float(flag.signal_number or 0), started - due)
        if not asked and late < 0:
            return
        ranks.sum_(sums.tensors())
        save()
        if asked:
            ranks.barrier()  # the first writes
            raise InterruptedRunError(int(asked))
        if not ranks.is_first:
            sums.clear()
        now = time.monotonic()  # the sums of large boxes take gigabytes
        due = now + max(
            _SECONDS_BETWEEN_CHECKPOINTS, (now - started) / _LARGEST_SHARE_OF_CHECKPOINTS
        )

    accumulate(sweep, sums, after_batch)
    ranks.sum_(sums.tensors())
    if sums.n_images > before:
        save()
    return sums


def _least_squares(
    moved: Float[np.ndarray, "n n n"],
    sweep: Sweep,
    sums: HalfSums,
    problem: Problem,
    checkpoints: HalfCheckpoints,
    flag: Interrupts,
    progress: StepProgress,
) -> Float[np.ndarray, "n n n"]:
    """Solve eq. 6 on the support; around it the backprojection stays."""
    support = problem.support
    prior = ShellPrior.estimate(moved, sums, support)
    equations = NormalEquations(sweep, sums, prior)
    kept = sweep.ranks.from_first(lambda: checkpoints.load(_SOLVER))
    state = None
    if kept is not None:
        arrays, values = kept
        state = SolverState(
            arrays["solution"],
            arrays["residual"],
            arrays["direction"],
            values["energy"],
            int(values["iteration"]),
        )

    def save(current: SolverState) -> None:
        arrays = {
            "solution": current.solution,
            "residual": current.residual,
            "direction": current.direction,
        }
        checkpoints.save(_SOLVER, arrays, energy=current.energy, iteration=float(current.iteration))

    sweep.advance = _pass_counter(sweep, problem.settings.iterations, state, flag, progress)
    state = solve(equations, problem.settings.iterations, state, save)
    solved = restore_amplitudes(support.embed(state.solution.astype(np.float32)), prior)
    weight = blend_weight(support)
    return weight * solved + (1.0 - weight) * moved


def _pass_counter(
    sweep: Sweep,
    n_iterations: int,
    state: SolverState | None,
    flag: Interrupts,
    progress: StepProgress,
) -> Callable[[int], None]:
    """Count images over all iterations; an interrupt leaves within one, which is then repeated."""
    done = len(sweep.rows) * (state.iteration if state else 0)

    def advance(n_images: int) -> None:
        nonlocal done
        done += n_images
        progress("Least squares", done, n_iterations * len(sweep.rows))
        flag.raise_if_requested()

    return advance
