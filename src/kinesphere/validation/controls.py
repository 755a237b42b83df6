"""The controls of a run: the held-out gain, the same statistic where nothing can be found, and
half-set errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from kinesphere.errors import InputError
from kinesphere.observations.observations import Observations
from kinesphere.runs.run import Run
from kinesphere.validation.held_out import HeldOutGain, held_out_gain, judge, randomise_phases
from kinesphere.validation.options import FEWEST_IMAGES, ControlName, NullSettings
from kinesphere.validation.record import ControlResult

STANDARD_ERRORS = 3.0
_STATISTIC = "log-likelihood gain over the best still structure, on coefficients held out"
_UNIT = "nats per image"
_STREAM = 7  # nulls draw from another random stream than the split

Advance = Callable[[int, int], None]


def run_controls(
    run: Run,
    names: Sequence[ControlName],
    settings: NullSettings,
    advance: Advance = lambda _done, _total: None,
) -> list[ControlResult]:
    """Run some controls; the held-out gain, which the others are compared with, always.

    Parameters
    ----------
    run
        The finished run.
    names
        Which.
    settings
        How.
    advance
        Called with the number of images done since the last call, and the number of all.

    Raises
    ------
    InputError
        If the settings or the run cannot be used.
    """
    settings.require_sensible()
    rows = choose_rows(len(run.latents.index), settings)
    total = len(rows) * settings.n_passes(names)
    observations = run.observations(rows)
    half = run.latents.half[rows]

    def measure(images: Observations, n_permutations: int = 0) -> HeldOutGain:
        judged = judge(run, images, half)
        return held_out_gain(
            judged, settings.seed, n_permutations, lambda done: advance(done, total)
        )

    gain = measure(observations, settings.n_permutations)
    results = [_held_out(gain)]
    if "phase-randomised" in names:
        null = [
            measure(_randomised(observations, settings, k)).mean for k in range(settings.n_seeds)
        ]
        results.append(_phases(gain, null, settings.phase_resolution))
    if "shuffled-poses" in names:
        null = [measure(_shuffled(observations, settings, k)).mean for k in range(settings.n_seeds)]
        results.append(_poses(gain, null))
    if "half-sets" in names and (errors := _half_sets(run)) is not None:
        results.append(errors)
    return results


def choose_rows(n: int, settings: NullSettings) -> Int[np.ndarray, " k"]:
    """Draw the images that are scored, in their order in the set."""
    if n < FEWEST_IMAGES:
        problem = f"a run of {n} images is too small to be tested"
        raise InputError("RUN", problem, f"Give a run of {FEWEST_IMAGES} images or more")
    draw = np.random.default_rng([settings.seed, _STREAM])
    return np.sort(draw.choice(n, min(n, settings.n_images), replace=False))


def _generator(settings: NullSettings, repeat: int) -> torch.Generator:
    return torch.Generator().manual_seed((settings.seed * 1_009 + repeat) * 31 + _STREAM)


def _randomised(observations: Observations, settings: NullSettings, repeat: int) -> Observations:
    generator = _generator(settings, repeat)
    data = randomise_phases(
        observations.exact, observations.band, generator, settings.phase_resolution
    )
    return replace(observations, data=data)


def _shuffled(observations: Observations, settings: NullSettings, repeat: int) -> Observations:
    """Give every image the orientation of another; its CTF and its centre stay."""
    order = torch.randperm(len(observations), generator=_generator(settings, repeat))
    return replace(observations, rotation=observations.rotation[order])


def _held_out(gain: HeldOutGain) -> ControlResult:
    least = STANDARD_ERRORS * gain.standard_error
    passed = gain.mean > least and gain.mean > gain.permuted.max()
    measured = f"{gain.mean:+.3g} ± {gain.standard_error:.2g} nats per image"
    if passed:
        verdict = f"Half of an image's coefficients tell how the other half is moved: {measured}."
    elif gain.mean > least:
        verdict = (
            f"What is gained, {measured}, other images' conformations gain too: not this "
            "image's motion."
        )
    else:
        verdict = (
            "Moved structures explain coefficients held out no better than a still one: "
            f"{measured}."
        )
    return ControlResult(
        name="held-out",
        question="Does the motion inferred from half of an image's coefficients predict the "
        "other half?",
        statistic=_STATISTIC,
        unit=_UNIT,
        value=gain.mean,
        null=tuple(gain.permuted.tolist()),
        verdict=verdict,
        passed=bool(passed),
    )


def _exceeds(gain: HeldOutGain, null: Sequence[float]) -> bool:
    """Tell whether the gain is above every null by more than its error allows."""
    return gain.mean > max(null) + STANDARD_ERRORS * gain.standard_error


def _phases(gain: HeldOutGain, null: Sequence[float], resolution: float | None) -> ControlResult:
    passed = _exceeds(gain, null)
    where = "" if resolution is None else f" beyond {resolution:g} Å"
    verb = "gains less" if passed else "gains no less"
    return ControlResult(
        name="phase-randomised",
        question=f"Is as much gained on images whose phases{where} are random?",
        statistic=_STATISTIC,
        unit=_UNIT,
        value=gain.mean,
        null=tuple(null),
        verdict=f"With random phases{where} the same model {verb}: at most {max(null):+.3g} "
        "nats per image.",
        passed=passed,
    )


def _poses(gain: HeldOutGain, null: Sequence[float]) -> ControlResult:
    passed = _exceeds(gain, null)
    verb = "gains less" if passed else "gains no less"
    return ControlResult(
        name="shuffled-poses",
        question="Is as much gained with the poses of other images?",
        statistic=_STATISTIC,
        unit=_UNIT,
        value=gain.mean,
        null=tuple(null),
        verdict=f"With other images' poses the same model {verb}: at most {max(null):+.3g} "
        "nats per image.",
        passed=passed,
    )


def half_errors_file(run: Run) -> Path:
    """Name the file in which training left the errors of its two half-set models; not every run has
    it.
    """
    return run.path / "validation" / "displacement_errors.npz"


def _half_sets(run: Run) -> ControlResult | None:
    """Compare displacements with their error where training left `displacement_errors.npz`."""
    path = half_errors_file(run)
    if not path.exists():
        return None
    try:
        with np.load(path) as stored:
            moved = stored["displacement_angstrom"]
            error = stored["error_angstrom"]
    except (OSError, KeyError, ValueError) as failure:
        raise InputError(path, "cannot be read", "Remove it, or train the run again") from failure
    rms_moved, rms_error = (
        float(np.sqrt((x.astype(np.float64) ** 2).mean())) for x in (moved, error)
    )
    passed = rms_moved > rms_error
    than = "more than" if passed else "no more than"
    return ControlResult(
        name="half-sets",
        question="Do two models trained on different images agree about images that trained "
        "neither?",
        statistic="RMS displacement of the Gaussians; null: RMS difference between the models",
        unit="Å",
        value=rms_moved,
        null=(rms_error,),
        verdict=f"Displacements of {rms_moved:.2f} Å are {than} the models differ by, "
        f"{rms_error:.2f} Å.",
        passed=passed,
    )
