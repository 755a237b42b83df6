"""Recover the conformation in every image as a displacement field of the consensus map's
pseudo-atoms (DynaMight).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from kinesphere.methods.config import FieldRunConfig
from kinesphere.ranks import joined
from kinesphere.runs.job import run_field


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass(frozen=True, kw_only=True)
class FieldOptions(FieldRunConfig):
    """Options of `kinesphere field`."""

    particles: tyro.conf.Positional[Path]
    """RELION STAR or cryoSPARC .cs file of particles with poses and CTF."""
    out: Path
    """Run folder to make, or to continue."""


def run(options: FieldOptions) -> None:
    """Train two half-set models, infer, and fill the run folder."""
    chosen = {field.name: getattr(options, field.name) for field in fields(FieldRunConfig)}
    with joined() as ranks:
        run_field(FieldRunConfig(**chosen), options.out, ranks)
