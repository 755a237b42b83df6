"""What a validation found: one result for each control, a verdict, and what was not tested; to and
from JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinesphere.errors import InputError
from kinesphere.runtime import atomic_write

RECORD_FILE = Path("validation") / "validation.json"
SUPPORTED = "motion supported"
NO_MOTION = "no motion beyond noise"
UNDECIDED = "undecided"


@dataclass(frozen=True)
class ControlResult:
    """What one control found.

    Parameters
    ----------
    name
        As `--control` takes it.
    question
        What it asks.
    statistic, unit
        What was measured, and in what.
    value
        The statistic of the run.
    null
        The statistic where the answer is known to be no.
    verdict
        A sentence.
    passed
        Whether the answer speaks for the motion.
    """

    name: str
    question: str
    statistic: str
    unit: str
    value: float
    null: tuple[float, ...]
    verdict: str
    passed: bool


@dataclass(frozen=True)
class ValidationRecord:
    """All controls of a run.

    Parameters
    ----------
    verdict
        `motion supported`, `no motion beyond noise` or `undecided`.
    reason
        Why, in a sentence.
    controls
        What was tested.
    not_tested
        What was not, and the command that would test it.
    """

    verdict: str
    reason: str
    controls: tuple[ControlResult, ...]
    not_tested: tuple[tuple[str, str], ...]

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False)
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> ValidationRecord:
        """Read it again.

        Raises
        ------
        InputError
            If the file is not there, or holds something else.
        """
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            controls = tuple(
                ControlResult(**{**item, "null": tuple(item["null"])})
                for item in stored["controls"]
            )
            not_tested = tuple((what, command) for what, command in stored["not_tested"])
            return cls(stored["verdict"], stored["reason"], controls, not_tested)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                path, "holds no validation", "Remove it, and run kinesphere validate"
            ) from error


def merged(
    before: Iterable[ControlResult], fresh: Iterable[ControlResult]
) -> tuple[ControlResult, ...]:
    """Replace results by fresh ones of the same name, and keep the others."""
    by_name = {control.name: control for control in before}
    by_name |= {control.name: control for control in fresh}
    return tuple(by_name.values())
