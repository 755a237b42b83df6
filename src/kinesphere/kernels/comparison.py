"""Comparing images with projections of structures: project, spread, transform, compare in one go.

A likelihood needs two numbers of a pair of an image x and a structure's model m, Re⟨x, m⟩ and ⟨m,
m⟩. Between a structure and these lie a grid and its transform, which are needed nowhere else:
compiled, pairs are worked through in blocks whose grids stay in the cache, by the loops of
`image_pairs`, and the gradient goes the same way back.
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

from kinesphere.kernels import image_pairs
from kinesphere.kernels.bspline import N_TAPS
from kinesphere.kernels.compiled import array_of, over_rows
from kinesphere.kernels.dispatch import operation
from kinesphere.kernels.rendering import RenderPlan, structure_factor

# Half a megabyte, and as much for transforms: stays in the cache of a core.
_GRID_VALUES_AT_ONCE = 1 << 17
_IMAGES_AT_ONCE = 256
_VALUES_A_POINT = 8  # that take about as long to copy or compare as a point to spread


@operation()
def inner_products(
    states: Float[Tensor, "k p 3"],
    rotation: Float[Tensor, "b 3 3"],
    amplitude: Float[Tensor, "*classes p"],
    plans: tuple[RenderPlan, ...],
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
        (n_points,) integrated intensity of each point; or (n_classes, n_points), one a plan.
    plans
        The coefficients, of one grid: one plan for each class of points.
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
    with torch.no_grad():
        # all structures of an image in one matrix product
        flat = torch.matmul(states.reshape(1, -1, 3), rotation[..., :, :2])
        points = flat.reshape(-1, states.shape[1], 2)  # (b · k, p, 2)
        factor = structure_factor(points, amplitude, plans)
        factor = factor.reshape(len(rotation), len(states), -1)
        model = factor * gain[:, None]
        template = data[:, None]
        cross = (template.real * model.real + template.imag * model.imag).sum(2)
        return cross, (model.real**2 + model.imag**2).sum(2)


@operation(differentiable=(0, 2))
def compare_pairs(
    states: Float[Tensor, "k p 3"],
    rotation: Float[Tensor, "b 3 3"],
    amplitude: Float[Tensor, "*classes p"],
    plans: tuple[RenderPlan, ...],
    gain: Float[Tensor, "b m"],
    data: Complex[Tensor, "b m"],
    image: Int[Tensor, " q"],
    state: Int[Tensor, " q"],
) -> tuple[Float[Tensor, " q"], Float[Tensor, " q"], Complex[Tensor, "q m"]]:
    """Compare chosen pairs of an image and a structure, differentiable once in structures and
    amplitudes.

    Parameters
    ----------
    states, rotation, amplitude, plans, gain, data
        As in `inner_products`.
    image, state
        (q,) rows of images and structures.

    Returns
    -------
    tuple
        Re⟨data, model⟩ and ⟨model, model⟩, each (q,); and the renderings (q, m) without gain, which
        carry no gradient.
    """
    points = states.index_select(0, state) @ rotation[image][..., :, :2]
    factor = structure_factor(points, amplitude, plans)
    model = factor * gain.index_select(0, image)
    template = data.index_select(0, image)
    cross = (template.real * model.real + template.imag * model.imag).sum(1)
    return cross, (model.real**2 + model.imag**2).sum(1), factor.detach()


@inner_products.takes
@compare_pairs.takes
def _has_one_class(
    _states: Tensor,
    _rotation: Tensor,
    _amplitude: Tensor,
    plans: tuple[RenderPlan, ...],
    *_others: Tensor,
) -> bool:
    """Tell whether each point is spread once, as the compiled loops do."""
    return len(plans) == 1


@inner_products.on_cpu
@torch.no_grad()
def _inner_products_compiled(
    states: Tensor,
    rotation: Tensor,
    amplitude: Tensor,
    plans: tuple[RenderPlan, ...],
    gain: Tensor,
    data: Tensor,
) -> tuple[Tensor, Tensor]:
    (plan,) = plans
    structures = _Structures.of(states / plan.pixel_angstrom, amplitude.flatten())
    parts = [
        _all_pairs(structures, rotation[rows], plan, gain[rows], data[rows])
        for rows in map(slice, *_edges(len(rotation), _IMAGES_AT_ONCE))
    ]
    cross, power = (torch.cat(part).reshape(-1, len(states)) for part in zip(*parts, strict=True))
    return cross, power


@compare_pairs.on_cpu
def _compare_pairs_compiled(
    states: Tensor,
    rotation: Tensor,
    amplitude: Tensor,
    plans: tuple[RenderPlan, ...],
    gain: Tensor,
    data: Tensor,
    image: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    (plan,) = plans
    states_px = states / plan.pixel_angstrom
    pairs = _Pairs.of(rotation, image, state, states.dtype)
    cross, power, rendered = _ComparePairs.apply(
        states_px, amplitude.flatten().to(states), pairs, plan, gain, data
    )
    return cross, power, rendered


def _example_images(dtype: torch.dtype) -> tuple[Any, ...]:
    """Three structures and four images of a few coefficients."""
    generator = torch.Generator().manual_seed(0)
    states = 5.0 * torch.randn(3, 12, 3, generator=generator).to(dtype)
    rotation = torch.linalg.qr(torch.randn(4, 3, 3, generator=generator)).Q.to(dtype)
    row, column = torch.meshgrid(torch.arange(-3, 4), torch.arange(4), indexing="ij")
    plan = RenderPlan.of_frequencies(32, 1.5, row.flatten(), column.flatten())
    gain = torch.linspace(0.5, 1.5, 4 * 28, dtype=dtype).reshape(4, 28)
    data = torch.view_as_complex(torch.randn(4, 28, 2, generator=generator).to(dtype))
    return states, rotation, torch.linspace(0.5, 1.5, 12, dtype=dtype), (plan,), gain, data


@inner_products.example
def _inner_products_example(dtype: torch.dtype) -> tuple[Any, ...]:
    return _example_images(dtype)


@compare_pairs.example
def _compare_pairs_example(dtype: torch.dtype) -> tuple[Any, ...]:
    image = torch.tensor([0, 1, 1, 3, 3])
    state = torch.tensor([0, 0, 2, 2, 0])
    return *_example_images(dtype), image, state


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
    image_pairs.make_templates(*map(array_of, (gain, data, factor, order)), template, squared)
    stretches = array_of(runs)
    images = array_of(pairs.image)
    cross, power = structures.empty(len(pairs)), structures.empty(len(pairs))
    products, squares = array_of(cross), array_of(power)
    for part, transform in _transforms(structures, pairs, plan):
        values = array_of(torch.view_as_real(transform).view(len(transform), -1))
        image_pairs.compare_runs(
            values, stretches, images[part], template, squared, products[part], squares[part]
        )
    return cross, power


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
        gain = gain.to(structures.kind).contiguous()
        data = _as_complex(data, structures.kind)
        cross, power = structures.empty(len(pairs)), structures.empty(len(pairs))
        rendered = data.new_empty(len(pairs), data.shape[1])
        index = array_of(plan.index)
        factor = array_of(plan.factor.to(structures.kind))
        for part, transform in _transforms(structures, pairs, plan):
            chosen = (
                array_of(transform.flatten(1)),
                index,
                factor,
                array_of(pairs.image[part]),
                array_of(gain),
                array_of(data),
            )
            image_pairs.compare_chosen(
                *chosen, array_of(rendered[part]), array_of(cross[part]), array_of(power[part])
            )
        ctx.save_for_backward(states_px, amplitude, gain, data, rendered)
        ctx.pairs = pairs
        ctx.plan = plan
        ctx.mark_non_differentiable(rendered)
        return cross, power, rendered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states_px, amplitude, gain, data, rendered = ctx.saved_tensors
        pairs: _Pairs = ctx.pairs
        plan: RenderPlan = ctx.plan
        structures = _Structures.of(states_px, amplitude)
        grad_cross, grad_power = (gradient.contiguous() for gradient in gradients[:2])
        index = array_of(plan.index)
        factor = array_of(plan.adjoint_factor.to(structures.kind))
        grad_states = torch.zeros_like(structures.states)
        grad_amplitude = torch.zeros_like(amplitude)
        for part in _blocks(structures, pairs, plan):
            columns = rendered.new_empty(part.stop - part.start, plan.n_columns, plan.size)
            fixed = (index, factor, *map(array_of, (pairs.image[part], gain, data)))
            weights = (array_of(grad_cross[part]), array_of(grad_power[part]))
            image_pairs.gradient_of_chosen(
                array_of(rendered[part]), *fixed, *weights, array_of(columns.flatten(1))
            )
            _gather(
                structures,
                pairs[part],
                _adjoint_transform(columns, structures.rows(plan)),
                grad_states,
                grad_amplitude,
            )
        grad_amplitude_or_none = grad_amplitude if ctx.needs_input_grad[1] else None
        return grad_states.transpose(1, 2), grad_amplitude_or_none, None, None, None, None


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
        size = plan.size
        if not math.isfinite(self.radius):
            return size
        return min(2 * (math.ceil(self.radius) + N_TAPS // 2 + 1), size)


def _blocks(structures: _Structures, pairs: _Pairs, plan: RenderPlan) -> Iterator[slice]:
    """Divide pairs into blocks whose grids fit the cache of the cores."""
    values = structures.rows(plan) * plan.size
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
    size = plan.size
    rows = structures.rows(plan)
    states, amplitude, frame, image, state = (
        array_of(t)
        for t in (structures.states, structures.amplitude, pairs.frame, pairs.image, pairs.state)
    )
    blocks = list(_blocks(structures, pairs, plan))
    most = max((part.stop - part.start for part in blocks), default=0)
    grids = structures.empty(most, rows, size)
    all_columns = torch.zeros(most, plan.n_columns, size, dtype=structures.kind.to_complex())
    for part in blocks:
        count = part.stop - part.start
        first = part.start
        grid = grids[:count]
        columns = all_columns[:count]
        out = grid.numpy()

        def spread(some: slice, first: int = first, out: NDArray[Any] = out) -> None:
            chosen = slice(first + some.start, first + some.stop)
            image_pairs.spread_pairs(
                states, frame, image[chosen], state[chosen], amplitude, out[some]
            )

        over_rows(spread, count, states.shape[2])
        half = torch.fft.rfft(grid).numpy()
        turned = columns.numpy()

        def turn(some: slice, half: NDArray[Any] = half, turned: NDArray[Any] = turned) -> None:
            image_pairs.rows_to_columns(half[some], turned[some])

        over_rows(turn, count, columns[0].numel() // _VALUES_A_POINT)
        yield part, torch.fft.fft(columns)


def _adjoint_transform(columns: Tensor, n_rows: int) -> Tensor:
    """Gradient with respect to grids (q, n_rows, size) from that with respect to their
    transforms.
    """
    size = columns.shape[2]
    rows = columns.new_empty(len(columns), n_rows, size // 2 + 1)
    image_pairs.columns_to_rows(array_of(torch.fft.ifft(columns, norm="forward")), array_of(rows))
    return torch.fft.irfft(rows, n=size, norm="forward")


def _gather(
    structures: _Structures,
    pairs: _Pairs,
    gradient: Tensor,
    grad_states: Tensor,
    grad_amplitude: Tensor,
) -> None:
    """Add the gradient of a block of pairs to those of structures (k, 3, p) and amplitudes (p,)."""
    n_points = structures.states.shape[2]
    of_points = structures.empty(len(pairs), 3, n_points)
    fixed = [array_of(t) for t in (structures.states, pairs.frame)]
    amplitude, *arrays = (
        array_of(t) for t in (structures.amplitude, pairs.image, pairs.state, gradient, of_points)
    )

    def gather(part: slice) -> None:
        image, state, pages, grad_points = (array[part] for array in arrays)
        image_pairs.gather_pairs(*fixed, image, state, amplitude, pages, grad_points)

    def lift(part: slice) -> None:
        image, state, _, grad_points = arrays
        totals = (array_of(grad_states), array_of(grad_amplitude))
        image_pairs.lift_gradient(
            grad_points, fixed[1], image, state, part.start, part.stop, *totals
        )

    over_rows(gather, len(pairs), n_points)
    over_rows(lift, n_points, len(pairs))  # over points: pairs may share a structure


def _as_complex(values: Tensor, kind: torch.dtype) -> Tensor:
    return values.to(kind.to_complex()).contiguous()
