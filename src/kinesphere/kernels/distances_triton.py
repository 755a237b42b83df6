"""The energy of changed distances on a GPU: `distances.strain_energy` and its gradient from one
Triton kernel.

Pairs are listed twice, once for either end, in the order of that end. One program takes a block of
points of one structure, goes through the pairs of each, and keeps gradients and the points' halves
of the energy in registers: no array of the size of structures × pairs is written, and nothing is
added to memory that others add to. In torch the gradient of picking the ends of pairs is a scatter
with as many collisions as a point has neighbours.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.kernels import distances
from kinesphere.kernels.distances import HUBER_ANGSTROM, TINY

_BLOCK = 128


def strain_energy(
    positions: Float[Tensor, "k p 3"],
    pairs: Int[Tensor, "e 2"],
    kept: Float[Tensor, " e"],
    nearest: Float[Tensor, " e"] | None = None,
) -> Float[Tensor, " k"]:
    """Charge changes in distance: see `distances.strain_energy`."""
    if positions.numel() == 0 or len(pairs) == 0:
        return distances.strain_energy.reference(positions, pairs, kept, nearest)
    least = torch.zeros_like(kept) if nearest is None else nearest
    energy: Tensor = _StrainEnergy.apply(positions, pairs, kept.to(positions), least.to(positions))
    return energy


class _StrainEnergy(torch.autograd.Function):
    """Energy and gradient from one pass over the points."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, pairs: Tensor, kept: Tensor, nearest: Tensor
    ) -> Tensor:
        points = positions.contiguous()
        (n_structures, n_points, _) = positions.shape
        start, pair, other = _by_end(pairs, n_points)
        gradient = torch.empty_like(points)
        n_blocks = triton.cdiv(n_points, _BLOCK)
        energy = points.new_empty(n_structures, n_blocks)
        with torch.cuda.device_of(points):
            _strain[(n_structures * n_blocks,)](
                *(
                    points,
                    start,
                    other,
                    kept[pair],
                    nearest[pair],
                    gradient,
                    energy,
                    n_points,
                    n_blocks,
                ),
                CORE=HUBER_ANGSTROM,
                TINY=TINY,
                BLOCK=_BLOCK,
                enable_fp_fusion=True,
            )
        ctx.save_for_backward(gradient)
        return energy.sum(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][:, None, None], None, None, None


def _by_end(
    pairs: Int[Tensor, "e 2"], n_points: int
) -> tuple[Int[Tensor, " starts"], Int[Tensor, " ends"], Int[Tensor, " ends"]]:
    """List pairs by either end: where those of each point begin, which pair it is, and its other
    end.
    """
    ends, order = pairs.T.reshape(-1).sort()
    points = torch.arange(n_points + 1, device=pairs.device, dtype=ends.dtype)
    other = pairs.flip(1).T.reshape(-1)[order]
    return (
        torch.searchsorted(ends, points, out_int32=True),
        order % len(pairs),
        other.to(torch.int32),
    )


@triton.jit
@no_type_check
def _strain(
    positions,
    start,
    other,
    kept,
    nearest,
    gradient,
    energy,
    n_points,
    n_blocks,
    CORE: tl.constexpr,
    TINY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Go through the pairs of a block of points of one structure."""
    program = tl.program_id(0)
    structure, block = program // n_blocks, program % n_blocks
    point = block * BLOCK + tl.arange(0, BLOCK)
    inside = point < n_points
    page = positions + structure.to(tl.int64) * n_points * 3
    x, y, z = _load_point(page, point, inside)
    first, stop = (
        tl.load(start + point, mask=inside, other=0),
        tl.load(start + point + 1, mask=inside, other=0),
    )
    total, grad_x, grad_y, grad_z = (
        tl.zeros_like(x),
        tl.zeros_like(x),
        tl.zeros_like(x),
        tl.zeros_like(x),
    )
    # as many steps as the busiest point of the block has pairs; the others idle
    for step in range(tl.max(stop - first)):
        at = first + step
        held = at < stop
        other_x, other_y, other_z = _load_point(page, tl.load(other + at, mask=held, other=0), held)
        along_x, along_y, along_z = x - other_x, y - other_y, z - other_z
        length = tl.sqrt(along_x * along_x + along_y * along_y + along_z * along_z + TINY)
        change = length - tl.load(kept + at, mask=held, other=0.0)
        missing = tl.maximum(tl.load(nearest + at, mask=held, other=0.0) - length, 0.0)
        size = tl.abs(change)
        inner, inner_missing = tl.minimum(size, CORE), tl.minimum(missing, CORE)
        charged = inner * (2.0 * size - inner) + inner_missing * (2.0 * missing - inner_missing)
        pull = 2.0 * (tl.where(change < 0.0, -inner, inner) - inner_missing) / length
        pull = tl.where(held, pull, 0.0)
        total += tl.where(held, 0.5 * charged, 0.0)  # the other half is the other end's
        grad_x += pull * along_x
        grad_y += pull * along_y
        grad_z += pull * along_z
    to = gradient + structure.to(tl.int64) * n_points * 3 + 3 * point
    tl.store(to, grad_x, mask=inside)
    tl.store(to + 1, grad_y, mask=inside)
    tl.store(to + 2, grad_z, mask=inside)
    tl.store(energy + program, tl.sum(total))


@triton.jit
@no_type_check
def _load_point(page, point, inside):
    """Load x, y and z of points."""
    at = page + 3 * point
    x, y = tl.load(at, mask=inside, other=0.0), tl.load(at + 1, mask=inside, other=0.0)
    return x, y, tl.load(at + 2, mask=inside, other=0.0)
