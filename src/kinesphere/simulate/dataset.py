"""A simulated particle set on disk: stack, star file, truth, nominal model and consensus map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinesphere.errors import InputError
from kinesphere.imaging.pose import euler_from_rotation
from kinesphere.io.mrc import ImageStack, stack_writer, write_map
from kinesphere.io.star import write_star
from kinesphere.io.structure import write_model
from kinesphere.runtime import atomic_write, claimed
from kinesphere.simulate.draws import SimulatedParticles, draw_particles
from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.images import clean_images
from kinesphere.simulate.noise import draw_noise, noise_power
from kinesphere.simulate.recipe import Recipe
from kinesphere.simulate.scattering import potential_map, require_known_elements

STACK_FILE = "particles.mrcs"
STAR_FILE = "particles.star"
TRUTH_FILE = "truth.npz"
MODEL_FILE = "model.cif"
MAP_FILE = "consensus.mrc"
README_FILE = "README.md"
_IMAGES_AT_ONCE = 500
_STATES_IN_CONSENSUS = 16
_PAGE = """\
# Simulated particles

{origin} {n_residues} residues, {n_atoms} atoms; {n_states} states along {n_motions} motion(s).
Made by `kinesphere simulate`.

- `particles.star`, `particles.mrcs`: RELION 3.1, with poses, CTF and half sets. Poses are
  {poses}, CTFs exact. The noise has variance one.
- Potential: every atom of the files, electron scattering factors of Peng et al. (1996), one
  B-factor; projected in Fourier space, CTF applied in a box {padding} times larger.
- SNR: variance of the CTF-applied clean images over the whole box, mean over images,
  / variance of the noise.
- `model.cif`: the nominal model, in the frame of the map (box centre at box // 2 pixels).
- `consensus.mrc`: not a reconstruction but the mean of the states' potentials, without noise,
  low-pass filtered to {consensus:.3g} Å.
- `truth.npz`: `coordinate` (n, motions) and `state` (n,) of each image; `ca_states` (states,
  residues, 3) Å, `chain`, `resid`, `icode` of the central atoms of protein and nucleic
  residues; `state_coordinate` (states, motions).

| option | value |
| --- | --- |
{table}
"""


def write_dataset(
    folder: Path,
    ensemble: Ensemble,
    recipe: Recipe,
    origin: str,
    on_progress: Callable[[int], None] = lambda _: None,
) -> SimulatedParticles:
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
    SimulatedParticles
        States, poses and CTFs of the particles.

    Raises
    ------
    InputError
        If the molecule does not fit into the box, or an atom's element is unknown.
    """
    require_known_elements(ensemble.model.atomic_number, "the model")
    centred = ensemble.centred()
    _require_fit(centred, recipe)
    particles = draw_particles(recipe, centred.coordinate)
    with claimed(folder):
        _write_images(folder / STACK_FILE, centred, particles, recipe, on_progress)
        write_star(folder / STAR_FILE, star_tables(particles, recipe, STACK_FILE))
        shown = centred.moved(np.full(3, recipe.pixel_size * (recipe.box // 2)))
        _write_truth(folder / TRUTH_FILE, shown, particles)
        write_model(folder / MODEL_FILE, shown.model)
        low_pass = consensus_resolution_angstrom(recipe)
        write_map(
            folder / MAP_FILE,
            _mean_potential(centred, particles, recipe, low_pass),
            recipe.pixel_size,
        )
        with atomic_write(folder / README_FILE) as temporary:
            temporary.write_text(_describe(ensemble, recipe, origin, low_pass), encoding="utf-8")
    return particles


def star_tables(
    particles: SimulatedParticles, recipe: Recipe, stack_name: str
) -> dict[str, dict[str, ArrayLike]]:
    """Lay out optics and particles as columns for `io.star.write_star`.

    Parameters
    ----------
    particles
        The recorded poses are given, which differ from the true ones by the recipe's errors.
    recipe
        Microscope and image size.
    stack_name
        Stack of the images, beside the star file.

    Returns
    -------
    dict
        Columns by name, by block. Origins are minus the shift, as RELION has them.
    """
    return {"optics": _optics(recipe), "particles": _particles(particles, recipe, stack_name)}


def _optics(recipe: Recipe) -> dict[str, ArrayLike]:
    groups = range(recipe.optics_groups)
    n_groups = len(groups)
    return {
        "rlnOpticsGroup": [group + 1 for group in groups],
        "rlnOpticsGroupName": [f"opticsGroup{group + 1}" for group in groups],
        "rlnVoltage": [recipe.group_voltage_kv(group) for group in groups],
        "rlnSphericalAberration": np.full(n_groups, recipe.spherical_aberration_mm),
        "rlnAmplitudeContrast": np.full(n_groups, recipe.amplitude_contrast),
        "rlnImagePixelSize": np.full(n_groups, recipe.pixel_size),
        "rlnImageSize": np.full(n_groups, recipe.box),
        "rlnImageDimensionality": np.full(n_groups, 2),
    }


def _particles(
    particles: SimulatedParticles, recipe: Recipe, stack_name: str
) -> dict[str, ArrayLike]:
    rot, tilt, psi = euler_from_rotation(particles.recorded_rotation).T
    origin_x, origin_y = -particles.recorded_shift_angstrom.T
    return {
        "rlnImageName": [f"{row:06d}@{stack_name}" for row in range(1, recipe.n + 1)],
        "rlnOpticsGroup": particles.optics_group + 1,
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": origin_x,
        "rlnOriginYAngst": origin_y,
        "rlnDefocusU": particles.defocus_u_angstrom,
        "rlnDefocusV": particles.defocus_v_angstrom,
        "rlnDefocusAngle": particles.defocus_angle_degrees,
        "rlnPhaseShift": np.full(recipe.n, recipe.phase_shift_degrees),
        "rlnRandomSubset": particles.half,
    }


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
    path: Path,
    ensemble: Ensemble,
    particles: SimulatedParticles,
    recipe: Recipe,
    on_progress: Callable[[int], None],
) -> None:
    """Write the clean images aside, learn their variance, then add noise of variance one to them,
    scaled to the SNR.
    """
    shape = (recipe.n, recipe.box, recipe.box)
    with TemporaryDirectory(dir=path.parent, prefix=".clean-") as scratch:
        clean_path = Path(scratch) / "clean.mrcs"
        variance = 0.0
        with stack_writer(clean_path, shape, recipe.pixel_size) as writer:
            for images in clean_images(ensemble, particles, recipe):
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


def _write_truth(path: Path, ensemble: Ensemble, particles: SimulatedParticles) -> None:
    model = ensemble.model
    residues = ensemble.shown_residues
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            coordinate=ensemble.coordinate[particles.state].astype(np.float32),
            state=particles.state.astype(np.int32),
            ca_states=ensemble.positions[:, model.centre_atom[residues]].astype(np.float32),
            chain=model.chain[residues],
            resid=model.residue_number[residues].astype(np.int32),
            icode=model.insertion_code[residues],
            state_coordinate=ensemble.coordinate.astype(np.float32),
        )


def _mean_potential(
    ensemble: Ensemble, particles: SimulatedParticles, recipe: Recipe, low_pass_angstrom: float
) -> NDArray[np.float32]:
    """Average the potential over the states of evenly spaced particles, in the order of their
    states.
    """
    ranked = np.sort(particles.state)
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


def _describe(ensemble: Ensemble, recipe: Recipe, origin: str, consensus_angstrom: float) -> str:
    """Write the README of a data set.

    Parameters
    ----------
    ensemble, recipe
        What was simulated, and how.
    origin
        Sentence on where the structures are from.
    consensus_angstrom
        Low-pass filter of the consensus map.
    """
    poses = "exact"
    if recipe.pose_error_degrees or recipe.shift_error_px:
        poses = (
            f"wrong by {recipe.pose_error_degrees:g}° and {recipe.shift_error_px:g} px per "
            "axis (root mean square)"
        )
    return _PAGE.format(
        origin=origin,
        n_residues=len(ensemble.shown_residues),
        n_atoms=ensemble.model.n_atoms,
        n_states=ensemble.n_states,
        n_motions=ensemble.coordinate.shape[1],
        poses=poses,
        padding=recipe.padding,
        consensus=consensus_angstrom,
        table="\n".join(
            f"| {field.name} | {getattr(recipe, field.name)} |" for field in fields(recipe)
        ),
    )
