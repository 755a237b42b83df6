"""Every operation's fast paths are held to its reference, and the right one runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import kinesphere
from kinesphere.kernels import dispatch, spreading
from kinesphere.kernels.dispatch import Operation, check, checked_kernels, operation, results
from kinesphere.kernels.warming import every_operation

ALL = every_operation()
WITH_TRITON = [op for op in ALL if op.triton]
MODULES = sorted({str(op.triton) for op in WITH_TRITON})
CASES = [
    pytest.param(op, dtype, id=f"{op.name}-{str(dtype)[6:]}") for op in ALL for dtype in op.dtypes
]
SOURCES = Path(kinesphere.__file__).parent
META = torch.device("meta")


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one.cpu(), other, rtol=tolerance, atol=tolerance * float(other.abs().max())
        )


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_compiled_values_and_gradients_are_those_of_the_reference(
    op: Operation[..., Any], dtype: torch.dtype
) -> None:
    assert op.make_example is not None
    assert op.compiled is not op.reference
    arguments = op.make_example(dtype)
    assert op.choose(*arguments) is op.compiled
    found = results(op.compiled, arguments, op.differentiable)
    expected = results(op.reference, arguments, op.differentiable)
    assert all(float(value.abs().max()) > 0 for value in expected)
    assert_close(found, expected, op.tolerance if dtype == torch.float32 else 1e-8)


@pytest.mark.oracle
@pytest.mark.parametrize("op", WITH_TRITON, ids=lambda op: op.name)
def test_triton_values_and_gradients_are_those_of_the_reference(
    op: Operation[..., Any], triton_device: torch.device
) -> None:
    kernels = checked_kernels(str(op.triton), triton_device)
    assert kernels is not None
    assert op.make_example is not None
    arguments = op.make_example(torch.float32)
    there = [dispatch._moved(argument, triton_device) for argument in arguments]
    found = results(getattr(kernels, op.name), there, op.differentiable)
    assert_close(found, results(op.reference, arguments, op.differentiable), op.tolerance)


def test_operations_are_known_by_distinct_names() -> None:
    assert len(ALL) == len({op.name for op in ALL}) >= 15
    assert {op.name for op in WITH_TRITON} == {
        "spread",
        "gather_gradient",
        "strain_energy",
        "pull",
        "push",
    }


def test_what_the_compiled_loop_does_not_take_goes_to_the_reference() -> None:
    @operation()
    def double(values: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        """Double."""
        return factor * values

    @double.on_cpu
    def _double(values: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        return values + values

    @double.takes
    def _takes(values: torch.Tensor, factor: float = 2.0) -> bool:
        return factor == 2.0

    try:
        assert double.choose(torch.ones(1)) is _double
        assert double.choose(torch.ones(1), 3.0) is double.reference
        assert double.choose(torch.ones(1), factor=3.0) is double.reference
        assert double.choose(torch.ones(1, device=META)) is double.reference
        assert double(torch.ones(1), factor=3.0).item() == 3.0
        assert double.__doc__ == "Double."
    finally:
        del dispatch.OPERATIONS["double"]


def test_one_argument_elsewhere_is_enough_to_leave_the_processor() -> None:
    points, amplitude = torch.zeros(2, 5, 2), torch.ones(5)
    spread = spreading.spread
    assert spread.choose(points, amplitude, 20) is spread.compiled
    assert spread.choose(points, amplitude.to(META), 20) is spread.reference
    assert spread(points.to(META), amplitude.to(META), 20).shape == (2, 20, 20)


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda")

    @property
    def is_cuda(self) -> bool:
        return True


def test_single_precision_on_a_gpu_goes_to_kernels_that_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    op, fake = spreading.spread, ModuleType("fake")
    fake.spread = lambda *_: None
    monkeypatch.setattr(dispatch, "checked_kernels", lambda *_: fake)
    points, amplitude = (torch.zeros(shape).as_subclass(OnGpu) for shape in ((2, 5, 2), (5,)))
    assert op.choose(points, amplitude, 20) is fake.spread
    assert op.choose(points.double(), amplitude, 20) is op.reference
    monkeypatch.setattr(dispatch, "checked_kernels", lambda *_: None)
    assert op.choose(points, amplitude, 20) is op.reference


@pytest.mark.oracle
@pytest.mark.parametrize("module", MODULES)
def test_kernels_that_differ_from_the_reference_are_found_out(
    module: str, triton_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = checked_kernels(module, triton_device)
    assert kernels is not None
    op = next(op for op in WITH_TRITON if op.triton == module)
    right = getattr(kernels, op.name)
    monkeypatch.setattr(kernels, op.name, lambda *given: 1.01 * right(*given))
    with pytest.raises(ArithmeticError, match=f"{op.name} by Triton differs from its reference"):
        check(kernels, triton_device)


def test_kernels_that_fail_are_not_used_and_the_user_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_compiler(name: str) -> ModuleType:
        raise RuntimeError("Failed to find C compiler\nand more")

    checked_kernels.cache_clear()
    monkeypatch.setattr(dispatch.importlib, "import_module", no_compiler)
    assert checked_kernels("some.module", torch.device("cuda")) is None
    checked_kernels.cache_clear()
    assert "more slowly: Failed to find C compiler" in " ".join(capsys.readouterr().err.split())


def test_nothing_outside_kernels_compiles_a_loop_or_asks_which_one_ran() -> None:
    mathematics = ("imaging", "motion", "reconstruction")
    compiling = re.compile(r"^\s*(?:import|from) (?:numba|llvmlite|triton)\b", re.MULTILINE)
    asking = re.compile(r"device\.type|is_cuda|kernels\.(?:dispatch|compiled)\b|\.on_cpu\b")
    for source in SOURCES.rglob("*.py"):
        folder = source.relative_to(SOURCES).parts[0]
        if folder == "kernels":
            continue
        text = source.read_text(encoding="utf-8")
        assert not compiling.search(text), source
        if folder in mathematics:
            assert not asking.search(text), source
