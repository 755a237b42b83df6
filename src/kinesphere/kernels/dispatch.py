"""Which implementation of an operation runs: the only place that knows.

On the processor that is the compiled loop; on a GPU in single precision the Triton kernel, if it
agrees there with the reference; everywhere else, and for arguments that a loop does not take, the
reference.

    @operation(differentiable=(0,), triton="kinesphere.kernels.distances_triton")
    def strain_energy(positions, pairs, kept, nearest=None):
        ...                                  # the reference, which runs anywhere

    @strain_energy.on_cpu
    def _strain_energy_compiled(positions, pairs, kept, nearest=None):
        ...                                  # the loop that numba compiles

    @strain_energy.example
    def _example(dtype):
        ...                                  # arguments to try the operation on

The module named by `triton` has a function of the operation's name. One small example serves three
ends: Triton kernels are compared with the reference on it before they are first used, tests compare
compiled loops with the reference on it, and `warming` compiles the loops by it.
"""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

from kinesphere.runtime import console

P = ParamSpec("P")
R = TypeVar("R")
Implementation = Callable[..., Any]

OPERATIONS: dict[str, Operation[..., Any]] = {}
"""Every operation by name, once its module has been imported."""


class Operation(Generic[P, R]):
    """An operation with the implementations it has; called as a function, it runs the right one.

    Parameters
    ----------
    reference
        The readable implementation, in torch or numpy; where it returns nothing, it changes its
        first argument.
    differentiable
        Positions of the arguments that it can be differentiated in.
    triton
        Module that has a function of the same name for a GPU; none: the reference runs there.
    dtypes
        Precisions that the compiled loop exists in.
    tolerance
        How far single precision may be off, relative to the largest value.
    """

    def __init__(
        self,
        reference: Callable[P, R],
        differentiable: Sequence[int] = (),
        triton: str | None = None,
        dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
        tolerance: float = 1e-4,
    ) -> None:
        functools.update_wrapper(self, reference)
        self.name: str = reference.__name__
        self.reference = reference
        self.differentiable = tuple(differentiable)
        self.triton = triton
        self.dtypes = tuple(dtypes)
        self.tolerance = tolerance
        self.compiled: Callable[P, R] = reference
        self.make_example: Callable[[torch.dtype], tuple[Any, ...]] | None = None
        self._takes: Callable[..., bool] = _takes_everything
        OPERATIONS[self.name] = self

    def on_cpu(self, compiled: Callable[P, R]) -> Callable[P, R]:
        """Decorate the function around the compiled loop."""
        self.compiled = compiled
        return compiled

    def takes(self, predicate: Callable[..., bool]) -> Callable[..., bool]:
        """Decorate what tells of some arguments whether the compiled loop takes them."""
        self._takes = predicate
        return predicate

    def example(
        self, make: Callable[[torch.dtype], tuple[Any, ...]]
    ) -> Callable[[torch.dtype], tuple[Any, ...]]:
        """Decorate what makes arguments of a precision to try the operation on."""
        self.make_example = make
        return make

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the implementation for these arguments."""
        implementation: Callable[P, R] = self.choose(*args, **kwargs)
        return implementation(*args, **kwargs)

    def choose(self, *args: P.args, **kwargs: P.kwargs) -> Implementation:
        """Give the implementation for these arguments."""
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if on_cpu(*tensors):
            return self.compiled if self._takes(*args, **kwargs) else self.reference
        if self.triton and tensors[0].is_cuda and tensors[0].dtype == torch.float32:
            kernels = checked_kernels(self.triton, tensors[0].device)
            if kernels is not None:
                kernel: Implementation = getattr(kernels, self.name)
                return kernel
        return self.reference


def operation(
    *,
    differentiable: Sequence[int] = (),
    triton: str | None = None,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
    tolerance: float = 1e-4,
) -> Callable[[Callable[P, R]], Operation[P, R]]:
    """Make an operation of its reference; for the parameters see `Operation`."""

    def decorate(reference: Callable[P, R]) -> Operation[P, R]:
        return Operation(reference, differentiable, triton, dtypes, tolerance)

    return decorate


def on_cpu(*tensors: Tensor) -> bool:
    """Tell whether compiled loops can reach all of these."""
    return all(tensor.device.type == "cpu" for tensor in tensors)


def _takes_everything(*_: Any, **__: Any) -> bool:
    return True


@functools.lru_cache(maxsize=64)
def checked_kernels(module: str, device: torch.device) -> ModuleType | None:
    """Import a module of Triton kernels and try it once on a device; None, and a line for the user,
    where that fails.
    """
    try:
        kernels = importlib.import_module(module)
        check(kernels, device)
    except Exception as error:  # noqa: BLE001 - no Triton, no C compiler, an old GPU: whatever stands in the way
        why = str(error).strip().splitlines()
        console.print(
            "The GPU goes without compiled kernels, more slowly: "
            f"{why[0] if why else type(error).__name__}",
            markup=False,
        )
        return None
    return kernels


def check(kernels: ModuleType, device: torch.device) -> None:
    """Compare Triton kernels with the references of their operations, on the examples.

    References run on the processor, where no setting of the user's lets them multiply with fewer
    digits.

    Raises
    ------
    ArithmeticError
        Where values or gradients differ by more than rounding.
    """
    for op in list(OPERATIONS.values()):
        if op.triton != kernels.__name__ or op.make_example is None:
            continue
        arguments = op.make_example(torch.float32)
        there = tuple(_moved(argument, device) for argument in arguments)
        by_triton = results(getattr(kernels, op.name), there, op.differentiable)
        expected = results(op.reference, arguments, op.differentiable)
        for one, other in zip(by_triton, expected, strict=True):
            largest = float(other.abs().max()) if other.numel() else 0.0
            limit = op.tolerance * max(largest, 1.0)
            if not torch.allclose(one.cpu(), other, rtol=op.tolerance, atol=limit):
                raise ArithmeticError(f"{op.name} by Triton differs from its reference")


def results(
    implementation: Implementation, arguments: Sequence[Any], differentiable: Sequence[int]
) -> list[Tensor]:
    """Run an implementation: its values, then the gradients of a sum of these, weighted unevenly.

    Arguments are copied; where nothing is returned, the value is what became of the first one.
    """
    given = [
        argument.detach().clone().requires_grad_(at in differentiable)
        if isinstance(argument, Tensor)
        else copy.copy(argument)
        for at, argument in enumerate(arguments)
    ]
    with torch.enable_grad():
        output = implementation(*given)
        outputs = (given[0] if output is None else output,)
        values = [torch.as_tensor(v) for v in (output if isinstance(output, tuple) else outputs)]
        gradients: Sequence[Tensor] = ()
        if differentiable:
            sums = [_weighted_sum(value) for value in values if value.requires_grad]
            total = torch.stack(sums).sum()
            gradients = torch.autograd.grad(total, [given[at] for at in differentiable])
    return [_as_real(value.detach()) for value in (*values, *gradients)]


def _weighted_sum(value: Tensor) -> Tensor:
    count = torch.arange(value.numel(), dtype=value.dtype, device=value.device)
    return (torch.cos(count).reshape(value.shape) * value).sum()


def _as_real(value: Tensor) -> Tensor:
    return torch.view_as_real(value) if value.is_complex() else value


def _moved(argument: Any, device: torch.device) -> Any:
    return argument.to(device) if hasattr(argument, "to") else argument
