"""The table of scores fits a terminal, and says so where a score is not defined."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from kinesphere.cli._score_table import score_table


def shown(scores: dict[str, object]) -> list[str]:
    text = StringIO()
    Console(file=text, width=80).print(score_table(scores))
    return text.getvalue().splitlines()


def test_a_score_stands_beside_the_unmoved_model_and_the_limit() -> None:
    lines = shown(
        {
            "ca_rmsd_median": 1.2613,
            "still_rmsd_median": 4.828,
            "ideal_ca_rmsd_median": 0.355,
            "fraction_of_ideal_ca_rmsd": 0.2814,
            "leakage_pose": [1.01, 1.02],
            "distances": [{"r": 0.98, "ideal_r": 0.99, "fraction_of_ideal": 0.9899}],
        }
    )
    assert lines[1].split() == ["CA", "RMSD,", "median", "(Å)", "1.26", "4.83", "0.35", "28", "%"]
    assert lines[2].split()[-6:] == ["Pearson", "0.980", "–", "0.990", "99", "%"]
    assert lines[3].startswith("leakage of pose")
    assert len(lines) == 4


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_not_defined_is_a_dash(value: float | None) -> None:
    assert shown({"r_main_motion": value})[1].split() == [
        "main",
        "motion,",
        "Pearson",
        "–",
        "–",
        "–",
        "–",
    ]
