"""Options that mean nothing are refused by their name; passes are those that controls need."""

from __future__ import annotations

import pytest

from kinesphere.errors import InputError
from kinesphere.validation.options import FEWEST_IMAGES, NullSettings


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        (NullSettings(n_images=FEWEST_IMAGES - 1), "--n-images"),
        (NullSettings(n_permutations=0), "--n-permutations"),
        (NullSettings(n_seeds=0), "--n-seeds"),
        (NullSettings(seed=-1), "--seed"),
        (NullSettings(phase_resolution=0.0), "--phase-resolution"),
    ],
)
def test_nonsense_is_refused(settings: NullSettings, option: str) -> None:
    with pytest.raises(InputError, match=option):
        settings.require_sensible()


def test_each_randomised_control_is_measured_once_a_seed() -> None:
    settings = NullSettings(n_seeds=3)
    assert settings.n_passes(("held-out",)) == 2
    assert settings.n_passes(("held-out", "shuffled-poses")) == 8
    assert settings.n_passes(("held-out", "phase-randomised", "shuffled-poses")) == 14
