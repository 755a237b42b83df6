"""The inverse of a motion: where in the reference a point of a deformed state comes from.

The paper trains a second network for it. A field whose derivative is at hand needs none: Γ_z(x) = y
is solved for x by Newton's method on every point by itself, three equations with three unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kinesphere.motion.base import Motion

_STEPS = 30
_HALVINGS = 6
_CLOSE_ANGSTROM = 1e-4
_LARGEST_STEP_ANGSTROM = 10.0
_PAIRS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Preimage:
    """Solutions of Γ_z(x) = y.

    Parameters
    ----------
    points
        (q, 3) x in Å.
    residual
        (q,) |Γ_z(x) − y| in Å: not zero where the field folds or tears, and nothing comes from
        anywhere.
    """

    points: Float[Tensor, "q 3"]
    residual: Float[Tensor, " q"]


def invert(motion: Motion, z: Float[Tensor, " d"], targets: Float[Tensor, "q 3"]) -> Preimage:
    """Find the points that the motion carries to given places at one latent position.

    Newton's method with steps halved until they help. It starts where the nearest reference point
    of the deformed state says: a fixed-point iteration x ← y − δ(z, x), which the paper's network
    replaces, converges only where the field changes by less than an Å in an Å, and large rotations
    do not.

    Parameters
    ----------
    motion
        A motion that carries points by where they are (a field).
    z
        (d,) latent position.
    targets
        (q, 3) y in Å, the centre of the box at zero.

    Returns
    -------
    Preimage
        On the device of `targets`.
    """
    with torch.no_grad():
        best = _start(motion, z, targets)
        error = _offset(motion, z, best, targets)
        for _ in range(_STEPS):
            open_rows = torch.nonzero(error.norm(dim=1) > _CLOSE_ANGSTROM)[:, 0]
            if len(open_rows) == 0:
                break
            moved, left = _newton_step(
                motion, z, best[open_rows], targets[open_rows], error[open_rows]
            )
            if torch.equal(moved, best[open_rows]):
                break
            best = best.index_copy(0, open_rows, moved)
            error = error.index_copy(0, open_rows, left)
    return Preimage(best, error.norm(dim=1))


def _start(motion: Motion, z: Tensor, targets: Tensor) -> Tensor:
    """Take back the displacement of the reference point that is nearest in the deformed state."""
    moved = motion(z[None])[0]
    per_block = max(1, _PAIRS_AT_ONCE // len(moved))
    nearest = torch.cat([torch.cdist(block, moved).argmin(1) for block in targets.split(per_block)])
    return targets - (moved - motion.reference)[nearest]


def _newton_step(
    motion: Motion, z: Tensor, points: Tensor, targets: Tensor, error: Tensor
) -> tuple[Tensor, Tensor]:
    """Take a step for every point, halved until it brings the point nearer, and none where no
    halving does.
    """
    step = torch.linalg.lstsq(jacobian(motion, z, points), error[..., None]).solution[..., 0]
    length = step.norm(dim=1, keepdim=True)
    step = torch.nan_to_num(
        step * (_LARGEST_STEP_ANGSTROM / length.clamp_min(_LARGEST_STEP_ANGSTROM))
    )
    best = points
    left = error
    undecided = torch.ones(len(points), dtype=torch.bool, device=points.device)
    for halving in range(_HALVINGS):
        trial = points - step * 0.5**halving
        offset = _offset(motion, z, trial, targets)
        better = undecided & (offset.norm(dim=1) < error.norm(dim=1))
        best = torch.where(better[:, None], trial, best)
        left = torch.where(better[:, None], offset, left)
        undecided &= ~better
        if not bool(undecided.any()):
            break
    return best, left


def jacobian(
    motion: Motion, z: Float[Tensor, " d"], points: Float[Tensor, "q 3"]
) -> Float[Tensor, "q 3 3"]:
    """Differentiate Γ_z at points: row c is the gradient of the moved point's component c."""
    with torch.enable_grad():
        places = points.detach().requires_grad_()
        moved = motion.move(z[None], places, _no_owner(places))[0]
        # a point moves by its own place alone, so that the gradient of a sum is that of every point
        rows = [
            torch.autograd.grad(moved[:, axis].sum(), places, retain_graph=True)[0]
            for axis in range(3)
        ]
    return torch.stack(rows, dim=1)


def _offset(motion: Motion, z: Tensor, points: Tensor, targets: Tensor) -> Tensor:
    return motion.move(z[None], points, _no_owner(points))[0] - targets


def _no_owner(points: Tensor) -> Tensor:
    return torch.zeros(len(points), dtype=torch.int64, device=points.device)
