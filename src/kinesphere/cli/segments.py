"""Recover the conformation in every image as rigid motions of learnt segments of an atomic model
(cryoSPHERE).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from kinesphere.methods.config import SegmentsRunConfig
from kinesphere.ranks import joined
from kinesphere.runs.job import run_segments


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass(frozen=True, kw_only=True)
class SegmentsOptions(SegmentsRunConfig):
    """Options of `kinesphere segments`."""

    particles: tyro.conf.Positional[Path]
    """RELION STAR or cryoSPARC .cs file of particles with poses and CTF."""
    out: Path
    """Run folder to make, or to continue."""


def run(options: SegmentsOptions) -> None:
    """Train, infer, and fill the run folder."""
    chosen = {field.name: getattr(options, field.name) for field in fields(SegmentsRunConfig)}
    with joined() as ranks:
        run_segments(SegmentsRunConfig(**chosen), options.out, ranks)
