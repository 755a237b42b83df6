"""Make particles with a known truth from a molecule in several states."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kinesphere.errors import InputError
from kinesphere.progress_bar import progress_bar
from kinesphere.runtime import console
from kinesphere.simulate.recipe import Recipe

if TYPE_CHECKING:
    from kinesphere.simulate.ensembles import Ensemble


@dataclass(frozen=True)
class SimulateOptions:
    """Options of `kinesphere simulate`."""

    states: tyro.conf.Positional[tuple[Path, ...]] = ()
    """PDB or mmCIF files with the same atoms, one a state, or with several models each. One file
    with one model needs --hinge. Without any, the bundled adenylate kinase opens from PDB 1AKE to
    4AKE."""
    out: Path = Path("simulated")
    """Folder to write to."""
    hinge: tuple[str, ...] = ()
    """Motions of a single structure, each RESIDUES/PIVOT/FROM/TO. A:122-159/A:122/-10/40 turns
    residues 122 to 159 of chain A about the central atom of A:122 from -10 to 40 degrees; positive
    angles open. Two hinges make a plane."""
    n_states: int = 41
    """States along each hinge motion, or along the bundled path."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)


def run(options: SimulateOptions) -> None:
    """Simulate a particle set and say where it is."""
    from kinesphere.simulate.dataset import STAR_FILE, write_dataset

    ensemble, origin = _ensemble(options)
    recipe = options.recipe
    with progress_bar("Imaging particles", recipe.n) as advance:
        write_dataset(options.out, ensemble, recipe, origin, advance)
    console.print(
        f"{recipe.n:,} particles, {ensemble.n_states} "
        f"{'state' if ensemble.n_states == 1 else 'states'}, "
        f"{recipe.box} px at {recipe.pixel_size:g} Å, SNR {recipe.snr:g}: {options.out / STAR_FILE}"
    )


def _ensemble(options: SimulateOptions) -> tuple[Ensemble, str]:
    """Build the ensemble, and the sentence that says what it is."""
    from kinesphere.io.structure import read_model
    from kinesphere.simulate.ensembles import (
        adenylate_kinase,
        ensemble_from_files,
        ensemble_from_hinges,
    )
    from kinesphere.simulate.hinges import parse_hinge

    names = ", ".join(path.name for path in options.states)
    if options.hinge:
        if len(options.states) != 1:
            raise InputError(
                "--hinge",
                f"needs one structure to move, {len(options.states)} are given",
                "Give one file",
            )
        model = read_model(options.states[0])
        hinges = [parse_hinge(text, model) for text in options.hinge]
        moved = " and ".join(options.hinge)
        return ensemble_from_hinges(
            model, hinges, options.n_states
        ), f"{names}, turned about the hinge(s) {moved}."
    if not options.states:
        text = (
            "E. coli adenylate kinase, PDB 1AKE (closed, the nominal model) to 4AKE (open), "
            "domains moved rigidly."
        )
        return adenylate_kinase(options.n_states), text
    ensemble = ensemble_from_files(options.states)
    if ensemble.n_states == 1:
        console.print("One state only: a set in which nothing moves. --hinge would make it move.")
    return ensemble, f"States from {names}."
