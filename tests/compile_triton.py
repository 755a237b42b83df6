"""Compile every Triton kernel for GPUs that need not be there, and print what came out as JSON.

python tests/compile_triton.py 80 90

A program of its own, because it needs Triton's compiler where the other tests need its interpreter.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kinesphere.kernels import distances_triton, spreading_triton, voxels_triton

POINTERS = {"keys": "*i32", "edges": "*i32", "order": "*i64", "voxels": "*i64", "cells": "*i64"}
POINTERS |= {"start": "*i32", "other": "*i32"}
COUNTS = ("size", "tiles", "spacing", "lattice_x", "lattice_y")
BLOCK = {"BLOCK": 128}
TILE = {"TILE": 16, "CHUNK": 32}
CASES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (spreading_triton._make_keys, BLOCK),
    (spreading_triton._fill_tiles, TILE | {"PRECISION": "ieee"}),
    (spreading_triton._fill_tiles, TILE | {"PRECISION": "tf32x3"}),
    (spreading_triton._gather, BLOCK),
    (distances_triton._strain, BLOCK | {"CORE": 0.3, "TINY": 1e-12}),
    (voxels_triton._visit_images, BLOCK | {"SAMPLES": True}),
    (voxels_triton._visit_images, BLOCK | {"SAMPLES": False}),
)


def signature(names: list[str], constants: dict[str, Any]) -> dict[str, str]:
    """Type of each argument."""
    result_type = "*fp64" if constants.get("SAMPLES") else "*fp32"
    types = {
        name: "i32" if name.startswith("n_") or name in COUNTS else POINTERS.get(name, "*fp32")
        for name in names
    }
    return (
        types
        | dict.fromkeys(constants, "constexpr")
        | ({"result": result_type} if "result" in names else {})
    )


def compile_case(kernel: Any, constants: dict[str, Any], capability: int) -> dict[str, Any]:
    """Compile one kernel down to machine code."""
    names = list(kernel.arg_names)
    types = signature(names, constants)
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(names)
        if types[name].startswith("*")
    }
    source = ASTSource(
        kernel, types, {(names.index(key),): value for key, value in constants.items()}, aligned
    )
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options={"num_warps": 2, **spreading_triton.FUSED})
    ptx = made.asm["ptx"]
    return {
        "kernel": kernel.__name__,
        "constants": constants,
        "capability": capability,
        "machine_code_bytes": len(made.asm["cubin"]),
        "shared_bytes": made.metadata.shared,
        "atomics": len(re.findall(r"\b(?:atom|red)\.", ptx)),
    }


if __name__ == "__main__":
    found = [
        compile_case(kernel, constants, int(capability))
        for capability in sys.argv[1:]
        for kernel, constants in CASES
    ]
    sys.stdout.write(json.dumps(found))
