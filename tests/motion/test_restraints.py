"""Restraints: nothing on the nominal model, finite everywhere, a push in the right direction where
there is a clash."""

from __future__ import annotations

import math

import pytest
import torch

from kinesphere.motion.restraints import NeighbourRestraints, Restraints, neighbour_graph


def two_strands(gap_angstrom: float = 10.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two straight chains of ten residues, 3.8 Å apart along x, `gap_angstrom` from one another."""
    strand = torch.stack([3.8 * torch.arange(10.0), torch.zeros(10), torch.zeros(10)], 1)
    points = torch.cat([strand, strand + torch.tensor([0.0, gap_angstrom, 0.0])])
    return points, torch.arange(20) // 10


def make(continuity: float = 1.0, clash: float = 1.0) -> tuple[Restraints, torch.Tensor]:
    points, domains = two_strands()
    return Restraints(points, domains, continuity=continuity, clash=clash), points


def test_nominal_model_costs_nothing_and_pulls_nowhere() -> None:
    restraints, points = make()
    structures = points.expand(3, -1, -1).clone().requires_grad_()
    energy = restraints.energy(structures)
    energy.sum().backward()
    assert structures.grad is not None
    assert not energy.any()
    assert not structures.grad.any()


def test_neighbours_of_the_nominal_model_are_no_clash() -> None:
    points, domains = two_strands(gap_angstrom=3.0)
    assert not Restraints(points, domains, clash=1.0).energy(points[None]).any()


def test_clash_free_structure_has_energy_zero_and_not_nan() -> None:
    restraints, points = make()
    apart = points.clone()
    apart[10:] += torch.tensor([0.0, 50.0, 0.0])
    torch.testing.assert_close(restraints.energy(apart[None]), torch.zeros(1), atol=1e-9, rtol=0.0)


def test_overlap_costs_its_square_and_is_pushed_apart() -> None:
    restraints, points = make()
    close = points.clone()
    close[10:, 1] = 3.0  # ten pairs at 3 Å, 1 Å inside the clash distance
    structures = torch.stack([points, close]).requires_grad_()
    energy = restraints.clash_energy(structures)
    torch.testing.assert_close(energy, torch.tensor([0.0, 10.0]))
    energy.sum().backward()
    assert structures.grad is not None
    assert bool((structures.grad[1, 10:, 1] < -1.9).all())  # downhill is away
    assert not structures.grad[0].any()


def test_coincident_residues_have_a_finite_gradient() -> None:
    restraints, points = make()
    on_top = points.clone()
    on_top[10:] = on_top[:10]
    structures = on_top[None].clone().requires_grad_()
    energy = restraints.energy(structures)
    energy.sum().backward()
    assert structures.grad is not None
    assert float(energy.detach()) == pytest.approx(10 * 16.0 + 18 * (4.0 - 3.8) ** 2, rel=1e-3)
    assert bool(torch.isfinite(structures.grad).all())


@pytest.mark.parametrize(("stretch", "expected"), [(0.2, 0.04), (1.5, 0.81), (-1.5, 0.81)])
def test_a_stretched_bond_costs_its_square_and_then_its_length(
    stretch: float, expected: float
) -> None:
    restraints, points = (
        make()
    )  # Huber's function with its corner at 0.3 Å: 0.3 · (2 · 1.5 − 0.3) = 0.81
    stretched = points.clone()
    stretched[5:10, 0] += stretch
    torch.testing.assert_close(
        restraints.continuity_energy(stretched[None]), torch.tensor([expected])
    )


def test_a_gap_in_the_model_is_no_bond() -> None:
    points, domains = two_strands()
    points[5:10, 0] += 20.0
    closed = points.clone()
    closed[5:10, 0] -= 12.0
    restraints = Restraints(points, domains, continuity=1.0)
    torch.testing.assert_close(
        restraints.continuity_energy(closed[None]), torch.zeros(1), atol=1e-9, rtol=0.0
    )


def test_chains_are_not_bonded_to_one_another() -> None:
    restraints, points = make()
    apart = points.clone()
    apart[10:] += 100.0
    torch.testing.assert_close(
        restraints.continuity_energy(apart[None]), torch.zeros(1), atol=1e-9, rtol=0.0
    )


def test_rigid_motion_costs_nothing() -> None:
    restraints, points = make()
    c, s = math.cos(1.0), math.sin(1.0)
    turned = points @ torch.tensor([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) + 7.0
    torch.testing.assert_close(restraints.energy(turned[None]), torch.zeros(1))


def test_weights_scale_and_switch_off() -> None:
    _, points = make()
    broken = points.clone()
    broken[5:10, 0] += 2.5
    broken[10:, 1] = 3.0
    one, _ = make(1.0, 1.0)
    continuity, clash = one.continuity_energy(broken[None]), one.clash_energy(broken[None])
    assert float(continuity) > 0
    assert float(clash) > 0
    weighted, _ = make(2.0, 0.5)
    torch.testing.assert_close(weighted.energy(broken[None]), 2.0 * continuity + 0.5 * clash)
    off, _ = make(0.0, 0.0)
    assert not off.active
    assert make(0.0, 1.0)[0].active
    assert off.energy(broken[None]).tolist() == [0.0]


def grid(spacing: float = 4.0) -> torch.Tensor:
    axis = spacing * torch.arange(4.0)
    return torch.cartesian_prod(axis, axis, axis)


def test_neighbour_graph_connects_what_is_nearer_than_one_and_a_half_spacings() -> None:
    edges, mean = neighbour_graph(grid(4.0))
    assert mean == pytest.approx(4.0)
    distance = torch.cdist(grid(4.0), grid(4.0))
    expected = torch.nonzero(
        torch.triu(distance < 6.0, diagonal=1)
    )  # along the axes and across the faces
    assert sorted(edges.tolist()) == expected.tolist()


def test_neighbour_energy_is_hubers_function_of_the_changes_times_the_number_of_points() -> None:
    points = grid()
    restraints = NeighbourRestraints(points, weight=0.5, repulsion=False)
    small, large = (
        0.01 * restraints.length,
        0.25 * restraints.length,
    )  # all below the corner at 0.3 Å, all above
    expected = [0.5 * 64 * small.square().mean(), 0.5 * 64 * (0.3 * (2 * large - 0.3)).mean()]
    found = restraints.energy(torch.stack([1.01 * points, 1.25 * points]))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=0)


def test_approaching_neighbours_cost_more_than_receding_ones() -> None:
    points = grid()
    restraints = NeighbourRestraints(points, weight=1.0)
    nearer, further = restraints.energy(0.9 * points[None]), restraints.energy(1.1 * points[None])
    assert float(nearer) > 1.2 * float(further)


def test_rigid_motion_of_neighbours_is_free() -> None:
    points = grid() + 0.3 * torch.randn(64, 3)
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    energy = NeighbourRestraints(points, weight=1.0).energy((points @ turn.T + 7.0)[None])
    torch.testing.assert_close(energy, torch.zeros(1), atol=1e-6, rtol=0)


def test_coincident_pseudo_atoms_have_a_finite_gradient() -> None:
    restraints = NeighbourRestraints(grid(), weight=1.0)
    positions = torch.zeros(1, 64, 3, requires_grad=True)
    restraints.energy(positions).sum().backward()
    assert positions.grad is not None
    assert bool(torch.isfinite(positions.grad).all())


def test_graph_follows_the_reference_unless_bonds_are_given() -> None:
    bonds = torch.tensor([[0, 1], [5, 60]])
    free, bonded = (NeighbourRestraints(grid(), weight=1.0, edges=edges) for edges in (None, bonds))
    moved = grid()
    moved[0] = 100.0
    for restraints in (free, bonded):
        restraints.follow(moved)
        torch.testing.assert_close(restraints.energy(moved[None]), torch.zeros(1))
    assert 0 not in free.edges
    assert torch.equal(bonded.edges, bonds)


def test_state_of_the_neighbours_can_be_restored() -> None:
    first, second = (
        NeighbourRestraints(grid(), weight=1.0),
        NeighbourRestraints(2.0 * grid(), weight=1.0),
    )
    first.rescale(0.25)
    second.restore(first.state())
    structures = 1.2 * grid()[None]
    torch.testing.assert_close(first.energy(structures), second.energy(structures))
