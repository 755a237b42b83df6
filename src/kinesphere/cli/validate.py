"""Test whether the motion is more than noise, and whether a wrong model would have shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.table import Table

from kinesphere import load
from kinesphere.progress_bar import progress_bar
from kinesphere.runtime import console, set_threads
from kinesphere.validation.options import CONTROLS, ControlName, NullSettings, WrongModelSettings

if TYPE_CHECKING:
    from kinesphere.validation.record import ControlResult, ValidationRecord


@dataclass(frozen=True)
class ValidateOptions:
    """Options of `kinesphere validate`."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    control: tuple[ControlName, ...] = CONTROLS
    """Controls to run; the results of others, found earlier, are kept. The held-out gain is always
    measured. `wrong-model` takes as long as the run did, and a reconstruction."""
    settings: tyro.conf.OmitArgPrefixes[NullSettings] = field(default_factory=NullSettings)
    """How the gain and its nulls are measured."""
    wrong: tyro.conf.OmitArgPrefixes[WrongModelSettings] = field(default_factory=WrongModelSettings)
    """What `wrong-model` replaces."""
    threads: int | None = None
    """CPU threads; none: all."""


def run(options: ValidateOptions) -> None:
    """Write RUN/validation/validation.json and show its verdict."""
    from kinesphere.validation.controls import run_controls
    from kinesphere.validation.record import RECORD_FILE, ValidationRecord, merged
    from kinesphere.validation.verdict import decide
    from kinesphere.validation.wrong_model import wrong_model_control

    set_threads(options.threads)
    options.settings.require_sensible()
    finished = load(options.run)
    path = options.run / RECORD_FILE
    before = ValidationRecord.load(path).controls if path.exists() else ()
    with progress_bar("Predicting coefficients held out", None) as advance:
        fresh = run_controls(
            finished,
            options.control,
            options.settings,
            advance,
        )
    if "wrong-model" in options.control:
        fresh.append(wrong_model_control(finished, options.wrong, options.settings.seed))
    record = decide(finished, merged(before, fresh))
    record.save(path)
    show(record)
    console.print(f"Wrote {path}.", highlight=False)


def show(record: ValidationRecord) -> None:
    """Print the table of controls and the verdict."""
    from kinesphere.validation.record import SUPPORTED

    table = Table(title="Controls", title_justify="left")
    for name in ("control", "value", "null", "unit", "passed"):
        table.add_column(name)
    for control in record.controls:
        value, yes = f"{control.value:.3g}", "yes" if control.passed else "no"
        table.add_row(control.name, value, _null(control), control.unit, yes)
    console.print(table)
    for control in record.controls:
        console.print(f"{control.question} {control.verdict}", highlight=False)
    style = "green" if record.verdict == SUPPORTED else "yellow"
    console.print(f"Verdict: {record.verdict}", style=style, highlight=False)
    for what, command in record.not_tested:
        console.print(f"Not tested: {what} ({command})", highlight=False, markup=False)


def _null(control: ControlResult) -> str:
    """Write the range of the null distribution."""
    if not control.null:
        return "–"
    low, high = min(control.null), max(control.null)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
