"""Options that mean nothing are refused by their name; both methods are meant by `both`."""

from __future__ import annotations

import pytest

from kinesphere.errors import InputError
from kinesphere.volumes.options import VolumeSettings


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        (VolumeSettings(clusters=2, at="0"), "exclude each other"),
        (VolumeSettings(clusters=0), "--clusters"),
        (VolumeSettings(steps=0), "--steps"),
        (VolumeSettings(fraction=0.0), "--fraction"),
        (VolumeSettings(fraction=1.5), "--fraction"),
    ],
)
def test_nonsense_is_refused(settings: VolumeSettings, option: str) -> None:
    with pytest.raises(InputError, match=option):
        settings.require_sensible()


def test_both_means_kernel_first() -> None:
    assert VolumeSettings().methods == ("kernel", "decoder")
    assert VolumeSettings(method="decoder").methods == ("decoder",)
