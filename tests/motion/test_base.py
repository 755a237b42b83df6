"""What every motion model inherits: of one that only shifts points, along x, by z ångströms."""

from __future__ import annotations

import torch
from torch import Tensor

from kinesphere.motion.base import Motion, States, Unmodelled

POINTS = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
Z = torch.tensor([[0.0], [2.0], [-1.5]])


class Shift(Motion):
    """Points move along x, and those of the second reference point twice as far."""

    def move(self, z: Tensor, points: Tensor, owner: Tensor) -> Tensor:
        along = torch.zeros(len(z), len(points), 3)
        along[..., 0] = z * (1.0 + owner)
        return points + along

    def memberships(self) -> torch.Tensor:
        return torch.ones(len(self.reference), 1)


def test_a_model_maps_latents_to_its_reference_points() -> None:
    motion = Shift(POINTS, 1)
    assert torch.equal(motion(Z)[0], POINTS)
    assert torch.equal(motion(Z)[1] - POINTS, torch.tensor([[2.0, 0, 0], [4.0, 0, 0]]))
    assert torch.equal(motion(Z), motion.states(Z).move_reference())


def test_what_belongs_to_a_point_moves_with_it() -> None:
    states = Shift(POINTS, 1).states(Z)
    atoms, owner = torch.randn(5, 3), torch.tensor([1, 0, 1, 1, 0])
    moved = states.move(atoms, owner) - atoms
    torch.testing.assert_close(moved, (states.move_reference() - POINTS)[:, owner])


def test_some_of_the_states_are_those_of_some_latents() -> None:
    states = Shift(POINTS, 1).states(Z)
    some = states[torch.tensor([2, 1])]
    assert isinstance(some, States)
    assert torch.equal(some.move_reference(), states.move_reference()[[2, 1]])


def test_a_given_reference_is_no_parameter_and_a_learnt_one_is() -> None:
    given, learnt = Shift(POINTS, 1), Shift(POINTS, 1, learns_reference=True)
    beads = torch.ones(2, 3)
    assert list(given.parameters()) == []
    assert given.at_rest(beads) is beads
    assert [id(p) for p in learnt.parameters()] == [id(learnt.reference)]
    assert learnt.at_rest(beads) is learnt.reference
    learnt(Z).sum().backward()
    assert torch.equal(learnt.reference.grad, torch.full((2, 3), 3.0))
    assert torch.equal(given.state_dict()["reference"], POINTS)


def test_a_reference_is_a_copy_of_what_was_given() -> None:
    points = POINTS.clone()
    motion = Shift(points, 1, learns_reference=True)
    points += 1.0
    assert torch.equal(motion.reference, POINTS)


def test_a_model_adds_nothing_that_it_does_not_say() -> None:
    motion = Shift(POINTS, 1)
    draw = torch.Generator().manual_seed(0)
    state = draw.get_state()
    motion.resample(draw)
    assert torch.equal(draw.get_state(), state)
    assert float(motion.divergence()) == 0.0
    assert motion.strain(Z, draw) is None
    assert motion.bead_weight() is None
    assert list(motion.structural_parameters()) == []
    assert motion.unmodelled == Unmodelled(0.0, 0.0, 0.0)
    motion.replace_reference(Z[1])
    assert torch.equal(motion.reference, POINTS)
