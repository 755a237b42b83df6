"""The analysis orders components by how far they move, and refuses what it cannot analyse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.summary import AnalysisSettings, analyse
from kinesphere.errors import InputError


def test_the_component_with_the_largest_motion_comes_first(run: Any) -> None:
    swapped = replace(run.hinges[0], latent=1), replace(run.hinges[1], latent=0)
    components = analyse(replace(run, hinges=swapped), AnalysisSettings(frames=3)).components
    assert components.motion_angstrom[0] > components.motion_angstrom[1]
    assert components.latent.variance_fraction[0] < components.latent.variance_fraction[1]


def test_bad_settings_and_latents_are_refused(run: Any) -> None:
    with pytest.raises(InputError, match="--frames"):
        analyse(run, AnalysisSettings(frames=1))
    broken = replace(
        run.latents,
        mean=np.where(np.arange(len(run.latents.mean))[:, None] == 3, np.nan, run.latents.mean),
    )
    with pytest.raises(InputError, match="not finite"):
        analyse(replace(run, latents=broken), AnalysisSettings())
