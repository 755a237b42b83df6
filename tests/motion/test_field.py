"""The displacement field: smooth, defined everywhere, rigid where it should be, and nothing at the
anchor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kinesphere.motion.field import CoordinateField, FieldMotion, SeparableField
from kinesphere.motion.inverse import jacobian

LATENT_DIM = 2


def ball(n_points: int = 120, radius_angstrom: float = 25.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    direction = torch.nn.functional.normalize(torch.randn(n_points, 3, generator=draw), dim=1)
    return radius_angstrom * direction * torch.rand(n_points, 1, generator=draw) ** (1 / 3)


def moving(decoder: str, n_parts: int | None = 6, by_angstrom: float = 5.0) -> FieldMotion:
    """Make a field whose random network has been amplified until it moves points by so much."""
    torch.manual_seed(3)
    field: FieldMotion
    if decoder == "separable":
        field = SeparableField(ball(), LATENT_DIM, n_parts=n_parts, decoder_width=32)
    else:
        field = CoordinateField(ball(), LATENT_DIM, decoder_width=32)
    last = field.decoder[-1] if isinstance(field, SeparableField) else field.last
    with torch.no_grad():
        for _ in range(3):  # rotations are not linear in the weights
            moved = (field(torch.randn(50, LATENT_DIM)) - field.reference).norm(dim=2).mean()
            last.weight.mul_(by_angstrom / moved)
    return field


@pytest.mark.parametrize("decoder", ["separable", "network"])
def test_nothing_moves_at_the_anchor_and_something_elsewhere(decoder: str) -> None:
    field = moving(decoder)
    z = torch.cat([field.anchor[None], torch.randn(20, LATENT_DIM)])
    moved = (field(z) - field.reference).detach().norm(dim=2)
    assert float(moved[0].max()) < 1e-3
    assert float(moved[1:].mean()) > 1.0


def test_separable_field_is_the_weighted_sum_of_rigid_motions() -> None:
    field = moving("separable")
    assert isinstance(field, SeparableField)
    z, points = torch.randn(2, LATENT_DIM), 40.0 * torch.randn(30, 3)
    rotation, translation = (t.detach().double().numpy() for t in field.transforms(z))
    weights, pivots = field.weights(points).detach().double().numpy(), field.pivots.double().numpy()
    expected = np.zeros((2, 30, 3))
    for k in range(2):
        for m in range(weights.shape[1]):
            turned = Rotation.from_rotvec(rotation[k, m]).apply(points.double().numpy() - pivots[m])
            expected[k] += weights[:, m, None] * (turned + pivots[m] + translation[k, m])
    found = field.move(z, points).detach().numpy()
    assert found == pytest.approx(expected, abs=2e-4)
    assert np.abs(found - points.numpy()).max() > 2.0


def test_weights_are_a_partition_of_unity_far_away_too() -> None:
    field = moving("separable")
    assert isinstance(field, SeparableField)
    weights = field.weights(torch.cat([field.reference, 500.0 * torch.randn(20, 3)])).detach()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    assert (
        float(weights[-20:].max(1).values.median()) > 0.99
    )  # what is outside moves with one part, not an average


def test_weights_of_far_parts_are_zero_rather_than_subnormal() -> None:
    field = moving("separable")
    assert isinstance(field, SeparableField)
    points = torch.linspace(-200.0, 200.0, 4001)[:, None] * torch.tensor([1.0, 0.3, -0.2])
    weights = field.weights(points)
    smallest = torch.finfo(torch.float32).tiny
    assert not (
        (weights > 0) & (weights < 1e6 * smallest)
    ).any()  # nor are products with coordinates and gradients
    assert (weights == 0).any()
    assert torch.allclose(weights.sum(1), torch.ones(len(points)), atol=1e-6)


def test_one_part_keeps_all_distances_however_far_it_turns() -> None:
    field = moving("separable", n_parts=1, by_angstrom=20.0)
    assert isinstance(field, SeparableField)
    z = torch.randn(2, LATENT_DIM)
    assert float(field.transforms(z)[0].detach().norm(dim=2).min()) > 0.3
    for moved in field(z).detach():
        torch.testing.assert_close(
            torch.pdist(moved), torch.pdist(field.reference.detach()), atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("decoder", ["separable", "network"])
def test_neighbours_stay_neighbours(decoder: str) -> None:
    """What moves points by several Å changes little over an Å, wherever they are."""
    field, z = moving(decoder, by_angstrom=3.0), torch.randn(10, LATENT_DIM)
    points = ball(80)
    near = points + torch.nn.functional.normalize(torch.randn(80, 3), dim=1)
    one, two = (field.move(z, place).detach() for place in (points, near))
    moved = (one - points).norm(dim=2)
    assert float(moved.mean()) > 1.0
    assert float(((one - points) - (two - near)).norm(dim=2).mean()) < 0.2 * float(moved.mean())


@pytest.mark.parametrize("decoder", ["separable", "network"])
def test_derivative_agrees_with_finite_differences(decoder: str) -> None:
    field, z = moving(decoder).double(), torch.randn(LATENT_DIM, dtype=torch.float64)
    points, step = ball(20).double(), 1e-4
    found = jacobian(field, z, points)
    for axis in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[axis]
        difference = field.move(z[None], points + shift)[0] - field.move(z[None], points - shift)[0]
        torch.testing.assert_close(
            found[:, :, axis], difference.detach() / (2 * step), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("decoder", ["separable", "network"])
def test_gradient_with_respect_to_z_agrees_with_finite_differences(decoder: str) -> None:
    field, z = (
        moving(decoder).double(),
        torch.randn(2, LATENT_DIM, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(
        lambda z: field.move(z, field.reference[:7]).sum(1), z, atol=1e-5
    )


@pytest.mark.parametrize("decoder", ["separable", "network"])
def test_a_predicted_state_can_become_the_reference(decoder: str) -> None:
    field, chosen, others = (
        moving(decoder, by_angstrom=1.0),
        torch.randn(LATENT_DIM),
        torch.randn(9, LATENT_DIM),
    )
    before, expected = field(chosen[None]).detach()[0], field(others).detach()
    field.replace_reference(chosen)
    torch.testing.assert_close(field.reference.detach(), before)
    torch.testing.assert_close(field(chosen[None]).detach()[0], before, atol=1e-3, rtol=0)
    moved, wrong = (
        (expected - before).norm(dim=2).mean(),
        (field(others).detach() - expected).norm(dim=2).mean(),
    )
    assert float(moved) > 0.5
    assert float(wrong) < 0.4 * float(
        moved
    )  # the field was defined in another reference: right to first order


def test_reference_positions_and_weights_are_learnt_at_their_own_rate() -> None:
    field = moving("separable")
    assert {id(p) for p in field.structural_parameters()} == {
        id(field.reference),
        id(field.log_weight),
    }
    field(torch.randn(2, LATENT_DIM)).square().sum().backward()
    assert field.reference.grad is not None


def test_weights_start_as_given_and_are_charged_for_leaving() -> None:
    field = moving("separable")
    torch.testing.assert_close(field.bead_weight(), torch.ones(len(field.reference)))
    assert float(field.divergence().detach()) == 0
    field.log_weight.data[:2] = torch.tensor([1.0, -2.0])
    torch.testing.assert_close(field.bead_weight()[:2].log(), torch.tensor([0.15, -0.30]))
    assert float(field.divergence().detach()) == pytest.approx(0.5 * (1.0 + 4.0))


@pytest.mark.parametrize("form", [SeparableField, CoordinateField])
def test_memberships_share_out_every_point(form: type[FieldMotion]) -> None:
    field = moving("separable" if form is SeparableField else "network")
    assert isinstance(field, form)
    memberships = field.memberships()
    torch.testing.assert_close(memberships.sum(1), torch.ones(len(field.reference)))
    assert len(memberships.argmax(1).unique()) > 3


@pytest.mark.parametrize("decoder", ["separable", "network"])
def test_folds_are_charged_and_gentle_motion_is_not(decoder: str) -> None:
    z, draw = torch.randn(6, LATENT_DIM), torch.Generator().manual_seed(0)
    gentle, violent = (moving(decoder, by_angstrom=size).strain(z, draw) for size in (0.3, 40.0))
    assert gentle is not None
    assert violent is not None
    torch.testing.assert_close(gentle, torch.zeros(6), atol=1e-3, rtol=0)
    assert float(violent.detach().max()) > 10.0


def test_a_mirrored_part_is_charged_by_its_volume() -> None:
    """A field that mirrors space has volume −1 everywhere: 3 · (0.2 + 1)² for each Gaussian."""
    field = moving("separable")
    field.move = lambda z, points, owner=None: (  # noqa: ARG005
        points.expand(len(z), -1, -1) * torch.tensor([1.0, 1.0, -1.0])
    )  # type: ignore[method-assign]
    strain = field.strain(torch.zeros(2, LATENT_DIM), torch.Generator().manual_seed(0))
    assert strain is not None
    torch.testing.assert_close(
        strain, torch.full((2,), 3.0 * len(field.reference) * 1.2**2), rtol=1e-3, atol=0
    )
