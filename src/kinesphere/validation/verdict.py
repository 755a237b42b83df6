"""From the controls of a run to one verdict, and what has not been tested."""

from __future__ import annotations

from collections.abc import Sequence

from kinesphere.runs.halves import has_one_model
from kinesphere.runs.run import Run
from kinesphere.validation.controls import half_errors_file
from kinesphere.validation.record import (
    NO_MOTION,
    SUPPORTED,
    UNDECIDED,
    ControlResult,
    ValidationRecord,
)

_WHAT = {
    "held-out": "the gain on coefficients held out",
    "phase-randomised": "images with random phases",
    "shuffled-poses": "images with the poses of others",
    "half-sets": "displacements against the difference of two models",
    "wrong-model": "whether a wrong model would show in the map",
}


def decide(run: Run, controls: Sequence[ControlResult]) -> ValidationRecord:
    """Apply the rule of docs/validation.md.

    Without a held-out gain that is significant and above that of permuted latents there is no
    motion beyond noise; with it, motion is supported where no other control speaks against it, else
    undecided.

    Parameters
    ----------
    run
        The finished run.
    controls
        What was found; the held-out gain among them.
    """
    gain = next(control for control in controls if control.name == "held-out")
    against = [control for control in controls if not control.passed and control is not gain]
    if not gain.passed:
        verdict = NO_MOTION
        reason = gain.verdict
    elif against:
        verdict = UNDECIDED
        reason = " ".join([gain.verdict, "But:", *(control.verdict for control in against)])
    else:
        verdict = SUPPORTED
        reason = gain.verdict
    if has_one_model(run.motions):
        reason += " The model had seen these images in training: --halves keeps them apart."
    return ValidationRecord(verdict, reason, tuple(controls), _not_tested(run, controls))


def _not_tested(run: Run, controls: Sequence[ControlResult]) -> tuple[tuple[str, str], ...]:
    done = {control.name for control in controls}
    missing = [
        (_WHAT[name], f"kinesphere validate {run.path} --control {name}{_more(run, name)}")
        for name in _WHAT
        if name not in done and (name != "half-sets" or half_errors_file(run).exists())
    ]
    if has_one_model(run.motions):
        missing.append(
            (
                "models that have not seen the images they are tested on",
                f"kinesphere {run.method.name} … --halves --out OTHER",
            )
        )
    return tuple(missing)


def _more(run: Run, name: str) -> str:
    needs_model = name == "wrong-model" and run.options.atomic_model is None
    return " --model MODEL" if needs_model else ""
