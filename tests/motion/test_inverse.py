"""The inverse motion: there and back, also where a fixed-point iteration would diverge."""

from __future__ import annotations

import pytest
import torch

from kinesphere.motion.base import Motion
from kinesphere.motion.field import SeparableField
from kinesphere.motion.inverse import invert

Z = torch.tensor([1.0])


class Turn(Motion):
    """A rotation about z by z radians: |R − 1| > 1 beyond 60°, where x ← y − δ(x) moves away from
    the solution."""

    def move(self, z: torch.Tensor, points: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        cosine, sine = torch.cos(z[:, :1]), torch.sin(z[:, :1])
        x, y, rest = points.unbind(-1)
        return torch.stack(
            [cosine * x - sine * y, sine * x + cosine * y, rest.expand(len(z), -1)], -1
        )

    def memberships(self) -> torch.Tensor:
        return torch.ones(len(self.reference), 1)


class Fold(Motion):
    """x is squared: no point has a negative image."""

    def move(self, z: torch.Tensor, points: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        x, y, rest = points.unbind(-1)
        return torch.stack([0.1 * x**2, y, rest], -1).expand(len(z), -1, -1)

    def memberships(self) -> torch.Tensor:
        return torch.ones(len(self.reference), 1)


@pytest.mark.parametrize("angle", [0.2, 1.5, 2.8])
def test_large_rotations_are_inverted(angle: float) -> None:
    points = 20.0 * torch.randn(50, 3)
    motion = Turn(points, 1)
    found = invert(motion, torch.tensor([angle]), points)
    expected = motion.move(torch.tensor([[-angle]]), points, torch.zeros(50, dtype=torch.int64))[0]
    torch.testing.assert_close(found.points, expected, atol=1e-3, rtol=0)
    assert float(found.residual.max()) < 1e-3


def test_a_field_with_bent_parts_comes_back() -> None:
    torch.manual_seed(5)
    reference = 15.0 * torch.randn(100, 3)
    field = SeparableField(reference, 1, n_parts=5, decoder_width=32)
    with torch.no_grad():
        field.decoder[-1].weight.mul_(160.0)
        places = reference + torch.randn(100, 3)
        moved = field.move(Z[None], places)[0]
    assert float((moved - places).norm(dim=1).median()) > 2.0
    found = invert(field, Z, moved)
    assert float((found.points - places).norm(dim=1).median()) < 1e-3
    assert float((found.points - places).norm(dim=1).quantile(0.95)) < 0.1
    assert float(found.residual.median()) < 1e-3


def test_where_nothing_comes_from_anywhere_the_residual_says_so() -> None:
    points = torch.tensor([[5.0, 0.0, 0.0], [7.0, 1.0, 2.0]])
    found = invert(Fold(points, 1), Z, torch.tensor([[3.6, 0.0, 0.0], [-4.0, 1.0, 2.0]]))
    torch.testing.assert_close(
        found.points[0].abs(), torch.tensor([6.0, 0.0, 0.0]), atol=1e-3, rtol=0
    )
    assert float(found.residual[0]) < 1e-3
    assert float(found.residual[1]) == pytest.approx(4.0, abs=0.1)
