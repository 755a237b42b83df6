"""Sentences that claim no more than the run shows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kinesphere.analysis.statement import short_ranges, state
from kinesphere.analysis.summary import Analysis, AnalysisSettings, analyse


@pytest.fixture(scope="module")
def analysis(run: Any) -> Analysis:
    return analyse(run, AnalysisSettings(frames=7))


def test_the_statement_names_the_swinging_residues(analysis: Analysis) -> None:
    statement = state(analysis)
    assert statement.headline.startswith("Residues A:73-108 turn by 41° and travel")
    assert "can be told apart" in statement.certainty
    assert json.dumps(statement.details).count("A:73-108") == 1


def test_a_still_molecule_is_called_still(run: Any) -> None:
    still = replace(run, hinges=())
    statement = state(analyse(still, AnalysisSettings(frames=3)))
    assert statement.headline.startswith("Nothing moves noticeably")


def test_large_errors_are_admitted(run: Any) -> None:
    unsure = replace(run, latents=replace(run.latents, covariance=400.0 * run.latents.covariance))
    assert "hardly be told apart" in state(analyse(unsure, AnalysisSettings(frames=3))).certainty


def test_long_lists_of_ranges_are_cut() -> None:
    assert short_ranges("A:1-5,7-9 B:3", 3) == "A:1-5,7-9 B:3"
    assert short_ranges("A:1-5,7-9 B:3,5-6,9", 3) == "A:1-5,7-9 B:3 and 2 more"
