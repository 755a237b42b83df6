"""Compiled inner loops beside their readable references, and the one place that chooses between
them.

Each module is one operation, or two that undo each other. An operation is written first in torch
(or numpy), to be read and to run on any device; below it, the loops that numba compiles for the
processor; in `…_triton`, where it pays, the same for a GPU. `dispatch` chooses. A caller calls the
operation, and neither knows nor asks which of them ran.

| module | operation |
| --- | --- |
| `dispatch` | what an operation is, and which of its implementations runs |
| `compiled`, `simd`, `warming` | how loops are compiled, kept and shared out over threads |
| `bspline`, `taps` | the cubic B-spline that everything below spreads and interpolates with |
| `spreading`, `rendering` | points onto grids and back; their Fourier coefficients |
| `comparison` (loops: `image_pairs`) | images with projections of structures, in one go |
| `shell_sums` | what signal scale and noise power are estimated from |
| `distances`, `blending`, `rigid_maps`, `composition`, `mixture` | motions and restraints |
| `voxels`, `slices`, `carriers` | backprojection: along a motion, without one; the motion itself |
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["needs_compiling", "warm_up"]


def needs_compiling() -> bool:
    """Tell whether the loops have yet to be compiled on this machine: half a minute, once."""
    from kinesphere.kernels import compiled

    return compiled.needs_compiling()


def warm_up(report: Callable[[str], None] | None = None) -> None:
    """Compile every loop of the processor that is not kept from before.

    Parameters
    ----------
    report
        Takes a line for the user before anything is compiled; not called where all is kept.
    """
    from kinesphere.kernels import warming

    warming.warm_up(report)
