"""What identifies a run comes first, and what must not be read from the page is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.summary import Analysis
from kinesphere.report.display import choose_atoms
from kinesphere.report.provenance import caveats, files_to_open, provenance_rows, settings_rows


def test_the_command_comes_first_and_nested_values_have_dotted_names(
    run: Any, analysis: Analysis
) -> None:
    rows = provenance_rows(run, analysis)
    assert rows[0] == ["command", run.provenance["command"]]
    assert ["inputs.particles.star", "sha256:00ff"] in rows
    assert ["report.seed", str(analysis.settings.seed)] in rows


def test_settings_are_one_row_each(run: Any) -> None:
    assert settings_rows(run) == [
        ["segments.n_segments", "7"],
        ["training.seed", "0"],
        ["training.halves", "False"],
    ]


def test_every_trajectory_is_offered(run: Any, analysis: Analysis) -> None:
    names = [name for name, _ in files_to_open(run, analysis)]
    assert names[0] == "analysis/open_in_chimerax.cxc"
    assert sum("trajectory" in name for name in names) == len(analysis.components.traversals)


@pytest.mark.parametrize(
    ("half", "said"), [(0, "One model was trained on all images."), (1, "shows half set 1")]
)
def test_the_reader_learns_which_model_is_shown(
    run: Any, analysis: Analysis, half: int, said: str
) -> None:
    latents = replace(run.latents, half=np.full(len(run.latents.index), half))
    shown = replace(run, latents=latents)
    named = dict(caveats(shown, analysis, 0.1, choose_atoms(shown)))
    assert said in named["Validation"]
    assert "0.10 Å RMS" in named["Exact coordinates"]
