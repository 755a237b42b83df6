"""A simulated particle set on disk: stack, star file, truth, nominal model and consensus map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.mrc import ImageStack, stack_writer, write_map
from kinesphere.io.star import write_star
from kinesphere.io.structure import write_model
from kinesphere.runtime import atomic_write, claimed
from kinesphere.simulate.draws import Draws, draw_particles
from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.images import clean_images
from kinesphere.simulate.noise import draw_noise, noise_power
from kinesphere.simulate.readme import describe
from kinesphere.simulate.recipe import Recipe
from kinesphere.simulate.scattering import potential_map, require_known_elements
from kinesphere.simulate.star_table import star_tables

STACK_FILE = "particles.mrcs"
STAR_FILE = "particles.star"
TRUTH_FILE = "truth.npz"
MODEL_FILE = "model.cif"
MAP_FILE = "consensus.mrc"
README_FILE = "README.md"
_IMAGES_AT_ONCE = 500
_STATES_IN_CONSENSUS = 16


def write_dataset(
    folder: Path,
    ensemble: Ensemble,
    recipe: Recipe,
    origin: str,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Draws:
    """Simulate particles and write them with everything a reconstruction starts from, and the
    truth.

    Parameters
    ----------
    folder
        Gets `particles.mrcs`, `particles.star`, `truth.npz`, `model.cif`, `consensus.mrc` and
        `README.md`. Model, truth and map share one frame, in which the box centre lies at box // 2
        pixels: the map's header origin is zero.
    ensemble
        States to show; they are moved so that their common centre is the box centre.
    recipe
        How to image them.
    origin
        Sentence for the README on where the structures are from.
    on_progress
        Called with the number of images made since the last call.

    Returns
    -------
    Draws
        States, poses and CTFs of the particles.

    Raises
    ------
    InputError
        If the molecule does not fit into the box, or an atom's element is unknown.
    """
    require_known_elements(ensemble.model.atomic_number, "the model")
    centred = ensemble.centred()
    _require_fit(centred, recipe)
    draws = draw_particles(recipe, centred.coordinate)
    with claimed(folder):
        _write_images(folder / STACK_FILE, centred, draws, recipe, on_progress)
        write_star(folder / STAR_FILE, star_tables(draws, recipe, STACK_FILE))
        shown = centred.moved(np.full(3, recipe.pixel_size * (recipe.box // 2)))
        _write_truth(folder / TRUTH_FILE, shown, draws)
        write_model(folder / MODEL_FILE, shown.model)
        low_pass = consensus_resolution_angstrom(recipe)
        write_map(
            folder / MAP_FILE, _mean_potential(centred, draws, recipe, low_pass), recipe.pixel_size
        )
        with atomic_write(folder / README_FILE) as temporary:
            temporary.write_text(describe(ensemble, recipe, origin, low_pass), encoding="utf-8")
    return draws


def consensus_resolution_angstrom(recipe: Recipe) -> float:
    """Resolution the consensus map is low-pass filtered to: 5 Å, or where the pixels are coarse,
    close to Nyquist.
    """
    return max(5.0, 2.2 * recipe.pixel_size)


def _require_fit(ensemble: Ensemble, recipe: Recipe) -> None:
    span = recipe.box * recipe.pixel_size
    needed = 2 * ensemble.radius_angstrom
    if needed > span:
        problem = (
            f"the molecule is up to {needed:.0f} Å across, {recipe.box} px of "
            f"{recipe.pixel_size:g} Å hold {span:.0f} Å"
        )
        remedy = (
            f"Give a box of {2 * int(np.ceil(0.6 * needed / recipe.pixel_size))} px or "
            "larger pixels"
        )
        raise InputError("--box", problem, remedy)


def _write_images(
    path: Path, ensemble: Ensemble, draws: Draws, recipe: Recipe, on_progress: Callable[[int], None]
) -> None:
    """Write the clean images aside, learn their variance, then add noise of variance one to them,
    scaled to the SNR.
    """
    shape = (recipe.n, recipe.box, recipe.box)
    with TemporaryDirectory(dir=path.parent, prefix=".clean-") as scratch:
        clean_path = Path(scratch) / "clean.mrcs"
        variance = 0.0
        with stack_writer(clean_path, shape, recipe.pixel_size) as writer:
            for images in clean_images(ensemble, draws, recipe):
                writer.write(images)
                variance += float(images.var(axis=(1, 2), dtype=np.float64).sum()) / recipe.n
                on_progress(len(images))
        clean = ImageStack(clean_path)
        scale = np.sqrt(recipe.snr / variance)
        sign = 1.0 if recipe.contrast == "positive" else -1.0
        power = noise_power(recipe)
        rng = np.random.default_rng(np.random.SeedSequence(recipe.seed).spawn(5)[-1])
        with stack_writer(path, shape, recipe.pixel_size) as writer:
            for first in range(0, recipe.n, _IMAGES_AT_ONCE):
                signal = clean[first : first + _IMAGES_AT_ONCE]
                writer.write(sign * (scale * signal + draw_noise(rng, len(signal), power)))


def _write_truth(path: Path, ensemble: Ensemble, draws: Draws) -> None:
    model = ensemble.model
    residues = ensemble.shown_residues
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            coordinate=ensemble.coordinate[draws.state].astype(np.float32),
            state=draws.state.astype(np.int32),
            ca_states=ensemble.positions[:, model.centre_atom[residues]].astype(np.float32),
            chain=model.chain[residues],
            resid=model.residue_number[residues].astype(np.int32),
            icode=model.insertion_code[residues],
            state_coordinate=ensemble.coordinate.astype(np.float32),
        )


def _mean_potential(
    ensemble: Ensemble, draws: Draws, recipe: Recipe, low_pass_angstrom: float
) -> NDArray[np.float32]:
    """Average the potential over the states of evenly spaced particles, in the order of their
    states.
    """
    ranked = np.sort(draws.state)
    shown = ranked[
        np.linspace(0, len(ranked) - 1, min(_STATES_IN_CONSENSUS, len(ranked))).round().astype(int)
    ]
    total = np.zeros((recipe.box,) * 3, dtype=np.float32)
    for state, count in zip(*np.unique(shown, return_counts=True), strict=True):
        total += (count / len(shown)) * potential_map(
            ensemble.positions[state],
            ensemble.model.atomic_number,
            recipe.box,
            recipe.pixel_size,
            recipe.b_factor,
            low_pass_angstrom,
        )
    return total
