"""Comparing images with projections of structures on the CPU: project, spread, transform and
compare in one go.

A likelihood needs two numbers of a pair of an image x and a structure's model m, Re⟨x, m⟩ and ⟨m,
m⟩. Between a structure and these lie a grid and its transform, which are needed nowhere else: pairs
are worked through in blocks whose grids stay in the cache, by the compiled loops of `pair_kernels`,
and the gradient goes the same way back. The references are `gaussians.render_coefficients` and
automatic differentiation, which is also what a GPU uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from kinesphere.imaging.gaussians import RenderPlan
from kinesphere.kernels import image_pairs as kernels
from kinesphere.kernels.compiled import array_of, over_rows
from kinesphere.kernels.spreading import KERNEL_WIDTH

_GRID_VALUES_AT_ONCE = (
    1 << 17
)  # half a megabyte, and as much for transforms: stays in the cache of a core
_IMAGES_AT_ONCE = 256
_VALUES_A_POINT = 8  # that take about as long to copy or compare as a point to spread


@torch.no_grad()
def inner_products(
    states: Float[Tensor, "k p 3"],
    rotation: Float[Tensor, "b 3 3"],
    amplitude: Float[Tensor, " p"],
    plan: RenderPlan,
    gain: Float[Tensor, "b m"],
    data: Complex[Tensor, "b m"],
) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Compare every image with every one of k shared structures; no gradient.

    Parameters
    ----------
    states
        (n_states, n_points, 3) xyz in Å, the centre of the box at zero.
    rotation
        (n_images, 3, 3) R of each image.
    amplitude
        (n_points,) integrated intensity of each point.
    plan
        The coefficients.
    gain
        (n_images, m) factor on each coefficient of a rendering, which makes it the model of an
        image.
    data
        (n_images, m) coefficients of the images.

    Returns
    -------
    tuple
        Re⟨data, model⟩ and ⟨model, model⟩, each (n_images, n_states).
    """
    structures = _Structures.of(states / plan.grid.spread_pixel_angstrom, amplitude)
    parts = [
        _all_pairs(structures, rotation[rows], plan, gain[rows], data[rows])
        for rows in map(slice, *_edges(len(rotation), _IMAGES_AT_ONCE))
    ]
    cross, power = (torch.cat(part).reshape(-1, len(states)) for part in zip(*parts, strict=True))
    return cross, power


def _all_pairs(
    structures: _Structures, rotation: Tensor, plan: RenderPlan, gain: Tensor, data: Tensor
) -> tuple[Tensor, Tensor]:
    """Compare some images with all structures, image after image."""
    n_images, n_states = len(rotation), len(structures.states)
    image = torch.arange(n_images).repeat_interleave(n_states)
    pairs = _Pairs.of(rotation, image, torch.arange(n_states).repeat(n_images), structures.kind)
    order, runs = plan.runs
    factor = plan.factor.to(structures.kind)
    template, squared = (structures.empty(n_images, 2 * len(order)).numpy() for _ in range(2))
    kernels.make_templates(*map(array_of, (gain, data, factor, order)), template, squared)
    stretches, images = array_of(runs), array_of(pairs.image)
    cross, power = structures.empty(len(pairs)), structures.empty(len(pairs))
    products, squares = array_of(cross), array_of(power)
    for part, transform in _transforms(structures, pairs, plan):
        values = array_of(torch.view_as_real(transform).view(len(transform), -1))
        kernels.compare_runs(
            values, stretches, images[part], template, squared, products[part], squares[part]
        )
    return cross, power


def compare_pairs(
    states: Float[Tensor, "k p 3"],
    rotation: Float[Tensor, "b 3 3"],
    amplitude: Float[Tensor, " p"],
    plan: RenderPlan,
    gain: Float[Tensor, "b m"],
    data: Complex[Tensor, "b m"],
    image: Int[Tensor, " q"],
    state: Int[Tensor, " q"],
) -> tuple[Float[Tensor, " q"], Float[Tensor, " q"], Complex[Tensor, "q m"]]:
    """Compare chosen pairs of an image and a structure, differentiable once in structures and
    amplitudes.

    Parameters
    ----------
    states, rotation, amplitude, plan, gain, data
        As in `inner_products`.
    image, state
        (q,) rows of images and structures.

    Returns
    -------
    tuple
        Re⟨data, model⟩ and ⟨model, model⟩, each (q,); and the renderings (q, m) without gain, which
        carry no gradient.
    """
    states_px = states / plan.grid.spread_pixel_angstrom
    pairs = _Pairs.of(rotation, image, state, states.dtype)
    cross, power, rendered = _ComparePairs.apply(
        states_px, amplitude.to(states), pairs, plan, gain, data
    )
    return cross, power, rendered


class _ComparePairs(torch.autograd.Function):
    """The forward pass keeps the rendered coefficients; grids and footprints are made again on the
    way back.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states_px: Tensor,
        amplitude: Tensor,
        pairs: _Pairs,
        plan: RenderPlan,
        gain: Tensor,
        data: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        structures = _Structures.of(states_px, amplitude)
        gain, data = gain.to(structures.kind).contiguous(), _as_complex(data, structures.kind)
        cross, power = structures.empty(len(pairs)), structures.empty(len(pairs))
        rendered = data.new_empty(len(pairs), data.shape[1])
        index, factor = array_of(plan.index), array_of(plan.factor.to(structures.kind))
        for part, transform in _transforms(structures, pairs, plan):
            chosen = (
                array_of(transform.flatten(1)),
                index,
                factor,
                array_of(pairs.image[part]),
                array_of(gain),
                array_of(data),
            )
            kernels.compare_chosen(
                *chosen, array_of(rendered[part]), array_of(cross[part]), array_of(power[part])
            )
        ctx.save_for_backward(states_px, amplitude, gain, data, rendered)
        ctx.pairs, ctx.plan = pairs, plan
        ctx.mark_non_differentiable(rendered)
        return cross, power, rendered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states_px, amplitude, gain, data, rendered = ctx.saved_tensors
        pairs: _Pairs = ctx.pairs
        plan: RenderPlan = ctx.plan
        structures = _Structures.of(states_px, amplitude)
        by_cross, by_power = (gradient.contiguous() for gradient in gradients[:2])
        # a coefficient with kx > 0 is twice in the inverse of a real transform, once in the sum
        # over half the plane
        factor = plan.factor.to(structures.kind) * torch.where(plan.repeated, 0.5, 1.0).to(
            structures.kind
        )
        index, by_state, by_amplitude = (
            array_of(plan.index),
            torch.zeros_like(structures.states),
            torch.zeros_like(amplitude),
        )
        for part in _blocks(structures, pairs, plan):
            columns = rendered.new_empty(
                part.stop - part.start, plan.n_columns, plan.grid.spread_box
            )
            fixed = (
                index,
                array_of(factor),
                array_of(pairs.image[part]),
                array_of(gain),
                array_of(data),
            )
            weights = (array_of(by_cross[part]), array_of(by_power[part]))
            kernels.gradient_of_chosen(
                array_of(rendered[part]), *fixed, *weights, array_of(columns.flatten(1))
            )
            _gather(
                structures,
                pairs[part],
                _adjoint_transform(columns, structures.rows(plan)),
                by_state,
                by_amplitude,
            )
        wanted = by_amplitude if ctx.needs_input_grad[1] else None
        return by_state.transpose(1, 2), wanted, None, None, None, None


@dataclass(frozen=True)
class _Pairs:
    """Pairs of an image and a structure, and the axes of the images (b, 3, 2)."""

    frame: Tensor
    image: Tensor
    state: Tensor

    @classmethod
    def of(cls, rotation: Tensor, image: Tensor, state: Tensor, kind: torch.dtype) -> _Pairs:
        return cls(rotation[:, :, :2].to(kind).contiguous(), image.contiguous(), state.contiguous())

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, part: slice) -> _Pairs:
        return _Pairs(self.frame, self.image[part], self.state[part])


@dataclass(frozen=True)
class _Structures:
    """Structures in pixels of the grid, (k, 3, p), with the amplitudes of their points and how far
    these reach.
    """

    states: Tensor
    amplitude: Tensor
    radius: float

    @classmethod
    def of(cls, states_px: Tensor, amplitude: Tensor) -> _Structures:
        states = states_px.detach().transpose(1, 2).contiguous()
        radius = float(states.square().sum(1).max().sqrt()) if states.numel() else 0.0
        return cls(states, amplitude.detach().to(states).contiguous(), radius)

    @property
    def kind(self) -> torch.dtype:
        return self.states.dtype

    def empty(self, *shape: int) -> Tensor:
        return self.states.new_empty(*shape)

    def rows(self, plan: RenderPlan) -> int:
        """Even number of rows of the grid that they reach, however they are turned; not more than
        there are.
        """
        size = plan.grid.spread_box
        if not math.isfinite(self.radius):
            return size
        return min(2 * (math.ceil(self.radius) + KERNEL_WIDTH // 2 + 1), size)


def _blocks(structures: _Structures, pairs: _Pairs, plan: RenderPlan) -> Iterator[slice]:
    """Divide pairs into blocks whose grids fit the cache of the cores."""
    values = structures.rows(plan) * plan.grid.spread_box
    return map(
        slice, *_edges(len(pairs), torch.get_num_threads() * max(1, _GRID_VALUES_AT_ONCE // values))
    )


def _edges(count: int, step: int) -> tuple[list[int], list[int]]:
    starts = list(range(0, count, step))
    return starts, [*starts[1:], count]


def _transforms(
    structures: _Structures, pairs: _Pairs, plan: RenderPlan
) -> Iterator[tuple[slice, Tensor]]:
    """Give the transforms (q, n_columns, size) of blocks of pairs, [kx, ky], the spline's transform
    still on them.
    """
    size, rows = plan.grid.spread_box, structures.rows(plan)
    states, amplitude, frame, image, state = (
        array_of(t)
        for t in (structures.states, structures.amplitude, pairs.frame, pairs.image, pairs.state)
    )
    blocks = list(_blocks(structures, pairs, plan))
    most = max((part.stop - part.start for part in blocks), default=0)
    grids = structures.empty(most, rows, size)
    all_columns = torch.zeros(most, plan.n_columns, size, dtype=structures.kind.to_complex())
    for part in blocks:
        count, first = part.stop - part.start, part.start
        grid, columns = grids[:count], all_columns[:count]
        out = grid.numpy()

        def spread(some: slice, first: int = first, out: NDArray[Any] = out) -> None:
            chosen = slice(first + some.start, first + some.stop)
            kernels.spread_pairs(states, frame, image[chosen], state[chosen], amplitude, out[some])

        over_rows(spread, count, states.shape[2])
        half, turned = torch.fft.rfft(grid).numpy(), columns.numpy()

        def turn(some: slice, half: NDArray[Any] = half, turned: NDArray[Any] = turned) -> None:
            kernels.rows_to_columns(half[some], turned[some])

        over_rows(turn, count, columns[0].numel() // _VALUES_A_POINT)
        yield part, torch.fft.fft(columns)


def _adjoint_transform(columns: Tensor, n_rows: int) -> Tensor:
    """Gradient with respect to grids (q, n_rows, size) from that with respect to their
    transforms.
    """
    size = columns.shape[2]
    rows = columns.new_empty(len(columns), n_rows, size // 2 + 1)
    kernels.columns_to_rows(array_of(torch.fft.ifft(columns, norm="forward")), array_of(rows))
    return torch.fft.irfft(rows, n=size, norm="forward")


def _gather(
    structures: _Structures, pairs: _Pairs, gradient: Tensor, by_state: Tensor, by_amplitude: Tensor
) -> None:
    """Add the gradient of a block of pairs to those of structures (k, 3, p) and amplitudes (p,)."""
    n_points = structures.states.shape[2]
    of_points = structures.empty(len(pairs), 3, n_points)
    fixed = [array_of(t) for t in (structures.states, pairs.frame)]
    amplitude, *arrays = (
        array_of(t) for t in (structures.amplitude, pairs.image, pairs.state, gradient, of_points)
    )

    def gather(part: slice) -> None:
        image, state, pages, found = (array[part] for array in arrays)
        kernels.gather_pairs(*fixed, image, state, amplitude, pages, found)

    def lift(part: slice) -> None:
        image, state, _, found = arrays
        totals = (array_of(by_state), array_of(by_amplitude))
        kernels.lift_gradient(found, fixed[1], image, state, part.start, part.stop, *totals)

    over_rows(gather, len(pairs), n_points)
    over_rows(lift, n_points, len(pairs))  # over points: pairs may share a structure


def _as_complex(values: Tensor, kind: torch.dtype) -> Tensor:
    return values.to(kind.to_complex()).contiguous()
