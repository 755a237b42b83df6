"""Decoding: Gaussians where the motion carries them, as heavy as the motion says."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.twist import Twist, twist
from kinesphere.inference.decoder import Decoder
from kinesphere.motion.reference import Reference

Z = torch.tensor([[0.0], [1.2], [-0.4]])
POINTS = 10.0 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
OWNER = torch.tensor([0, 0, 3, 4, 1, 2])
BEADS = POINTS[OWNER] + 0.5


def reference(amplitude: Tensor) -> Reference:
    own = torch.arange(5)
    return Reference(POINTS, own, own, BEADS, amplitude, OWNER, BEADS, OWNER, own)


class Heavy(Twist):
    """Learns its reference and weighs its Gaussians, one a point."""

    def bead_weight(self) -> Tensor:
        return torch.linspace(0.5, 1.5, len(self.reference))


def test_gaussians_are_where_the_motion_carries_them() -> None:
    decoder = Decoder(Twist(POINTS, 1), reference(torch.ones(6)))
    decoded = decoder(Z)
    torch.testing.assert_close(decoded.positions, twist(BEADS, Z))
    assert torch.equal(decoder.decode(Z), decoded.positions)
    assert torch.equal(decoded.z, Z)
    rows = torch.tensor([2, 1])
    torch.testing.assert_close(decoded.structures(rows), twist(POINTS, Z[rows]))


def test_amplitudes_of_several_widths_add_up_and_are_weighed() -> None:
    by_width = torch.rand(2, 6)
    plain = Decoder(Twist(POINTS, 1), reference(by_width))
    torch.testing.assert_close(plain.amplitude, by_width.sum(0))
    assert plain.weight is None
    points = BEADS.clone()
    own = torch.arange(6)
    mine = Reference(points, own, own, points, by_width, own, points, own, own)
    heavy = Decoder(Heavy(points, 1, learns_reference=True), mine)
    torch.testing.assert_close(heavy.amplitude, by_width.sum(0) * torch.linspace(0.5, 1.5, 6))


def test_a_learnt_reference_is_where_gaussians_rest() -> None:
    own = torch.arange(5)
    mine = Reference(POINTS, own, own, POINTS, torch.ones(5), own, POINTS, own, own)
    decoder = Decoder(Twist(POINTS, 1, learns_reference=True), mine)
    with torch.no_grad():
        decoder.motion.reference += 2.0
    torch.testing.assert_close(decoder.at_rest, POINTS + 2.0)
    assert torch.equal(decoder.start, POINTS)
    rows = torch.tensor([1])
    torch.testing.assert_close(decoder(Z).structures(rows), twist(POINTS + 2.0, Z[rows]))
    decoder(Z).positions.sum().backward()
    assert decoder.motion.reference.grad is not None


def test_only_what_is_learnt_is_stored() -> None:
    decoder = Decoder(Twist(POINTS, 1), reference(torch.ones(6)))
    assert set(decoder.state_dict()) == {"motion.reference"}
