"""The options of a run along normal modes: what reaches the motion model, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.io.structure import read_model
from kinesphere.methods.modes import Modes, ModesConfig, ModesOptions
from kinesphere.motion import modes as motion

MODEL = Path(motion.__file__).parents[1] / "data" / "adenylate_kinase_1ake.cif.gz"


def options(**modes: Any) -> ModesOptions:
    return ModesOptions(particles=Path("x.star"), model=MODEL, modes=ModesConfig(**modes))


@pytest.mark.parametrize(
    ("name", "value"), [("n_modes", 0), ("cutoff_angstrom", -1.0), ("block_length", 0)]
)
def test_numbers_that_cannot_be_meant_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: {value} cannot be used"):
        options(**{name: value}).require_sensible()


def test_options_reach_the_motion_model() -> None:
    method = Modes(options(n_modes=7, block_length=12, decoder_width=10)).resolved(214, 4000)
    reference = method.make_reference(read_model(MODEL), np.zeros(3))
    made = method.make_motion(reference)
    assert len(made.twist) == 6 + 7
    assert made.decoder[0].out_features == 10
    blocks = motion.RigidBlocks.of_chains(
        reference.points.double().numpy(), reference.chain.numpy(), 12
    )
    expected = motion.normal_modes(blocks, 7, 12.0).stiffness
    softness = np.sqrt(expected[0] / expected)
    np.testing.assert_allclose(made.scale[6:].numpy(), softness.clip(0.1), rtol=1e-5)


def test_no_block_crosses_a_range_of_the_user() -> None:
    ranges = ("A:1-30", "A:121-160")
    chosen = ModesOptions(particles=Path("x.star"), model=MODEL, ranges=ranges)
    reference = Modes(chosen).make_reference(read_model(MODEL), np.zeros(3))
    blocks = motion.RigidBlocks.of_chains(
        reference.points.double().numpy(), reference.domains.numpy(), 8
    )
    ends = set(np.flatnonzero(np.diff(blocks.block)).tolist())
    assert {29, 119, 159} <= ends
