"""Particles for the comparison with other programs, simulated once: a folder that each of them can
read.

    python benchmarks/peers/data.py /tmp/peers-data

`small` is adenylate kinase (214 residues) in 64 px, `large` five of it (1,070 residues), one of
which turns, in 128 px.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from kinesphere.io.mrc import ImageStack
from kinesphere.io.structure import AtomicModel, read_model, write_model

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import kinesphere

_PIXEL_SIZE_ANGSTROM = 1.5
_APART_ANGSTROM = 52.0


@dataclass(frozen=True)
class Options:
    """Where to, and how many images."""

    out: tyro.conf.Positional[Path]
    """Folder for `small` and `large`."""
    small: int = 2000
    """Images of 64 px."""
    large: int = 512
    """Images of 128 px."""


def main(options: Options) -> None:
    """Simulate what is not there yet."""
    make_small(options.out / "small", options.small)
    make_large(options.out / "large", options.large)


def make_small(folder: Path, n_images: int) -> Path:
    """Simulate the bundled enzyme in 64 px."""
    return _simulated(folder, n_images, 64)


def make_large(folder: Path, n_images: int) -> Path:
    """Simulate five of the bundled enzyme in 128 px; the second turns about a residue of the
    first.
    """
    if (folder / "about.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    one = make_small(folder.parent / "small", 200) / "model.pdb"
    structure = folder / "five.pdb"
    write_model(structure, five_of(read_model(one)))
    return _simulated(folder, n_images, 128, structure, "--hinge", "B:1-214/A:100/-15/15")


def _simulated(folder: Path, n_images: int, box: int, *molecule: str | Path) -> Path:
    if not (folder / "about.json").exists():
        size = ("--n", str(n_images), "--box", str(box), "--pixel-size", str(_PIXEL_SIZE_ANGSTROM))
        kinesphere(
            "simulate", *molecule, "--out", folder, *size, "--snr", "0.1", "--n-states", "11"
        )
        prepare(folder)
    return folder


def prepare(folder: Path) -> None:
    """Add what other programs need to a folder of simulated particles: the model as PDB, and its
    sizes as JSON.
    """
    if not (folder / "model.pdb").exists():
        write_model(folder / "model.pdb", read_model(folder / "model.cif"))
    n_images, box, _ = ImageStack(folder / "particles.mrcs").shape
    model = read_model(folder / "model.pdb")
    about = {
        "n_images": n_images,
        "box": box,
        "pixel_size": _PIXEL_SIZE_ANGSTROM,
        "residues": model.n_residues,
        "diameter_angstrom": float(np.linalg.norm(np.ptp(model.positions_angstrom, axis=0))),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def five_of(one: AtomicModel) -> AtomicModel:
    """Put five copies of a chain side by side, as chains A to E: one in the middle, four around it
    in a plane.
    """
    places = _APART_ANGSTROM * np.array(
        [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=float
    )
    centred = one.positions_angstrom - one.positions_angstrom.mean(0)
    middle = 64 * _PIXEL_SIZE_ANGSTROM
    n_atoms, n_residues = len(centred), one.n_residues
    copies = range(5)
    return AtomicModel(
        positions_angstrom=np.concatenate([centred + place + middle for place in places]),
        atomic_number=np.tile(one.atomic_number, 5),
        atom_name=np.tile(one.atom_name, 5),
        alt_loc=np.tile(one.alt_loc, 5),
        residue_index=np.concatenate([one.residue_index + copy * n_residues for copy in copies]),
        b_factor=np.tile(one.b_factor, 5),
        occupancy=np.tile(one.occupancy, 5),
        residue_name=np.tile(one.residue_name, 5),
        chain=np.repeat(list("ABCDE"), n_residues),
        insertion_code=np.tile(one.insertion_code, 5),
        residue_number=np.tile(one.residue_number, 5),
        residue_kind=np.tile(one.residue_kind, 5),
        centre_atom=np.concatenate([one.centre_atom + copy * n_atoms for copy in copies]),
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
