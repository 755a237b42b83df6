"""Compiling every loop of the processor by calling it once, so that the user waits knowingly."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import torch

from kinesphere.kernels import compiled, dispatch


def warm_up(report: Callable[[str], None] | None = None) -> None:
    """See `kernels.warm_up`."""
    if not compiled.needs_compiling():
        return
    if report is not None:
        report(
            "compiling kernels, once"
            if compiled.cache_folder()
            else "compiling kernels, which no folder can keep: set NUMBA_CACHE_DIR to one"
        )
    for operation in every_operation():
        if operation.make_example is not None:
            arguments = operation.make_example(torch.float32)
            dispatch.results(operation.compiled, arguments, operation.differentiable)
    compiled.mark_as_compiled()


def every_operation() -> list[dispatch.Operation[..., object]]:
    """Import all modules of operations, and list these."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        if not module.name.endswith("_triton"):
            importlib.import_module(module.name)
    return list(dispatch.OPERATIONS.values())
