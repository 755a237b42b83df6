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


def test_each_coordinate_that_varies_has_a_row_with_its_limit() -> None:
    lines = shown(
        {
            "latent_smooth_r_coordinate": [0.7512, None, None],
            "ideal_r_coordinate": [0.8, None, 0.9],
            "fraction_of_ideal_latent_smooth_r_coordinate": [0.939, None, None],
        }
    )
    rows = [line.split("Pearson") for line in lines[1:]]
    assert [name.strip() for name, _ in rows] == [
        "coordinate 1 from all latents,",
        "coordinate 3 from all latents,",
    ]
    assert rows[0][1].split() == ["0.751", "–", "0.800", "94", "%"]
    assert rows[1][1].split() == ["–", "–", "0.900", "–"]


def test_coordinates_are_shown_without_limits_where_no_ideal_observer_looked() -> None:
    assert shown({"latent_smooth_r_coordinate": [0.5]})[1].split()[-5:] == [
        "Pearson",
        "0.500",
        "–",
        "–",
        "–",
    ]


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
