"""Plots of the page of results: where values, gaps and outliers are drawn."""

import pytest
from charts import DotRow, Scale, Series, dot_rows, lines


def test_a_scale_places_values_and_ticks() -> None:
    scale = Scale(1.0, 1000.0, 0.0, 300.0)
    assert [scale(value) for value in (1, 10, 1000)] == pytest.approx([0, 100, 300])
    assert scale.ticks == [1, 10, 100, 1000]
    assert Scale(0.0, 1.0, 100.0, 0.0, is_log=False)(0.25) == 75.0


def test_lines_leave_out_what_is_undefined() -> None:
    gap = Series("a", 1, [1, 10, 100], [1.0, float("nan"), 100.0])
    assert lines([gap], "title", "x").count("<circle") == 2
    assert not lines([Series("a", 1, [], [])], "title", "x")


def test_dots_outside_the_axis_stay_on_its_ends() -> None:
    drawn = dot_rows([DotRow("a", "b", [0.5, 5000.0], 1)], (1, 1000), "×")
    assert drawn.count('class="dot" style="left:0.0%"') == 1
    assert drawn.count('class="dot" style="left:100.0%"') == 1
