"""Write a subset of the particles of a file or of a run, with every column as it was."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.runtime import console

if TYPE_CHECKING:
    from kinesphere.particles import ParticleSet

_COMPARISONS: dict[str, Callable[[Any, Any], NDArray[np.bool_]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|==|!=|<|>|=)\s*(\S+)\s*")


@dataclass(frozen=True)
class SelectOptions:
    """Options of `kinesphere select`."""

    particles: tyro.conf.Positional[Path]
    """STAR or .cs file, or the folder of a run (its particles.star, which has the latents as
    columns)."""
    out: Path
    """File to write: .star, or .cs where the particles come from a .cs file."""
    where: tuple[str, ...] = ()
    """Conditions that all have to hold, such as "rlnKinesphereLatent1>0.5" "rlnDefocusU<20000"."""
    indices: Path | None = None
    """File of positions, counted from 0: text, .npy, or .npz with an array called index."""
    half: Literal[1, 2] | None = None
    """Only this half set."""
    invert: bool = False
    """Take the particles that the other options leave out."""


def run(options: SelectOptions) -> None:
    """Choose the particles, write them, and say how many they are."""
    from kinesphere.particles import ParticleSet

    source = (
        options.particles / "particles.star" if options.particles.is_dir() else options.particles
    )
    particles = ParticleSet.read(source)
    chosen = np.ones(len(particles), dtype=bool)
    for condition in options.where:
        chosen &= _holds(particles, condition)
    if options.indices is not None:
        chosen &= _listed(options.indices, len(particles))
    if options.half is not None:
        chosen &= particles.half == options.half
    if options.invert:
        chosen = ~chosen
    if not chosen.any():
        raise InputError(
            source, f"has no particle that fits ({len(particles)} read)", "Choose wider conditions"
        )
    _write(particles[chosen], options.out)
    console.print(
        f"{int(chosen.sum()):,} of {len(particles):,} particles written to {options.out}",
        highlight=False,
    )


def _write(particles: ParticleSet, out: Path) -> None:
    if out.suffix == ".cs":
        particles.write_cs(out)
    elif out.suffix == ".star":
        particles.write_star(out)
    else:
        raise InputError(
            "--out",
            f"{out} is neither a .star nor a .cs file",
            "Give the file one of these endings",
        )


def _holds(particles: ParticleSet, condition: str) -> NDArray[np.bool_]:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise InputError(
            "--where", f"{condition!r} is not a condition", "Write it as column, comparison, value"
        )
    name, comparison, text = match.groups()
    values = particles.column(name)
    if values.dtype.kind != "f":
        if comparison not in {"=", "==", "!="}:
            raise InputError(
                "--where", f"{name} holds text, which {comparison} does not compare", "Use = or !="
            )
        return _COMPARISONS[comparison](values, text)
    try:
        return _COMPARISONS[comparison](values, float(text))
    except ValueError as error:
        raise InputError(
            "--where", f"{text!r} in {condition!r} is not a number", f"{name} holds numbers"
        ) from error


def _listed(path: Path, n_particles: int) -> NDArray[np.bool_]:
    """Mark the positions that a file lists, (n,)."""
    try:
        loaded: Any = (
            np.loadtxt(path, ndmin=1) if path.suffix not in {".npy", ".npz"} else np.load(path)
        )
        positions = np.asarray(loaded["index"] if path.suffix == ".npz" else loaded).ravel()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            path, f"holds no positions ({reason})", "Give one whole number a line, .npy or .npz"
        ) from error
    whole = positions.astype(np.int64)
    bad = np.flatnonzero((whole != positions) | (whole < 0) | (whole >= n_particles))
    if bad.size:
        problem = (
            f"entry {bad[0] + 1} is {positions[bad[0]]:g}, not a position from 0 to "
            f"{n_particles - 1}"
        )
        raise InputError(path, problem, "Count particles from 0")
    listed = np.zeros(n_particles, dtype=bool)
    listed[whole] = True
    return listed
