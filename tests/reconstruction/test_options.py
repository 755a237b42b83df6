"""Options that mean nothing are refused by their name."""

from __future__ import annotations

import pytest

from kinesphere.errors import InputError
from kinesphere.reconstruction.options import ReconstructionSettings


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        (ReconstructionSettings(iterations=-1), "--iterations"),
        (ReconstructionSettings(support_angstrom=0.0), "--support-angstrom"),
        (ReconstructionSettings(support_angstrom=float("nan")), "--support-angstrom"),
    ],
)
def test_nonsense_is_refused(settings: ReconstructionSettings, option: str) -> None:
    with pytest.raises(InputError, match=option):
        settings.require_sensible()


def test_defaults_are_sensible() -> None:
    settings = ReconstructionSettings()
    settings.require_sensible()
    assert settings.iterations == 0
