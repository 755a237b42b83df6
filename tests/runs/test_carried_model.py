"""A model carried along: the state that it shows is found by density, and undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.fake_run import helix_bundle
from helpers.twist import Twist, twist
from kinesphere.inference.decoder import Decoder
from kinesphere.motion.reference import Reference
from kinesphere.runs.carried_model import CarriedModel, State, find_state, model_beads

CENTRE = np.array([100.0, 50.0, -20.0])
CANDIDATES = np.linspace(-2.0, 2.0, 33)[:, None]
MODEL = helix_bundle()


def atoms_at_rest() -> torch.Tensor:
    """Atoms of a bundle of helices about the origin."""
    positions = MODEL.positions_angstrom - MODEL.positions_angstrom.mean(0)
    return torch.from_numpy(positions).float()


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """A twist of pseudo-atoms that stand for those atoms: every second of them."""
    points = atoms_at_rest()[::2].contiguous()
    own = torch.arange(len(points))
    zero = torch.zeros_like(own)
    reference = Reference(points, zero, zero, points, torch.ones(len(own)), own, points, own, own)
    return Decoder(Twist(points, 1, learns_reference=True), reference)


@pytest.mark.parametrize("z", [-1.6, 0.0, 0.7])
def test_the_state_of_a_model_is_found_and_its_atoms_pulled_back(
    decoder: Decoder, z: float
) -> None:
    shown = twist(atoms_at_rest(), torch.tensor([[z]]))[0].double().numpy() + CENTRE
    model = replace(MODEL, positions_angstrom=shown)
    places, state = find_state(decoder, CANDIDATES, model, CENTRE)
    assert state.z[0] == pytest.approx(z, abs=0.05)
    assert state.residual_angstrom < 0.01
    assert state.correlation > 0.95
    distance = (places - atoms_at_rest()).norm(dim=1)
    assert float(distance.square().mean().sqrt()) < 0.05 * 20  # 0.05 in z is a milliradian an Å
    assert (state.correlation > state.at_rest + 0.02) == (z != 0.0)


def test_atoms_weigh_what_their_electrons_do() -> None:
    number, occupancy = MODEL.atomic_number.copy(), MODEL.occupancy.copy()
    number[0], occupancy[1] = 0, 0.0
    positions, electrons = model_beads(
        replace(MODEL, atomic_number=number, occupancy=occupancy), CENTRE
    )
    np.testing.assert_allclose(positions + CENTRE, MODEL.positions_angstrom, atol=1e-12)
    assert electrons[:4].tolist() == [6.0, 0.0, 6.0, 8.0]  # what is not known counts as carbon


def test_the_report_says_where_the_model_was_found_and_how_well() -> None:
    atoms = atoms_at_rest()
    owner = torch.zeros(len(atoms), dtype=torch.int64)
    state = State(np.array([0.5, -1.25]), 0.91, 0.8, 0.033)
    (line,) = CarriedModel(MODEL, {2: atoms}, owner, {2: state}).report()
    for words in ("Half set 2", "(0.50, -1.25)", "0.910", "0.800", "0.03 Å"):
        assert words in line
    assert CarriedModel(MODEL, {0: atoms}, owner, {}).report() == []
