"""The random part of a data set: who shows what, from where, through which CTF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from kinesphere.imaging.ctf import CtfParameters
from kinesphere.simulate.recipe import Recipe

_BIMODAL = ((0.65, 0.20, 0.08), (0.35, 0.80, 0.06))  # share, mean, standard deviation


@dataclass(frozen=True, eq=False)
class SimulatedParticles:
    """One row a particle.

    Attributes
    ----------
    state
        (n,) index of the conformation.
    rotation, recorded_rotation
        (n, 3, 3) R with x_image = Rᵀ · x_volume: the true one, and the one a user is told.
    shift_angstrom, recorded_shift_angstrom
        (n, 2) xy of the molecule's centre in the image.
    defocus_u_angstrom, defocus_v_angstrom, defocus_angle_degrees
        (n,).
    optics_group
        (n,) 0, 1, …
    half
        (n,) 1 or 2.
    """

    state: NDArray[np.int64]
    rotation: NDArray[np.float64]
    recorded_rotation: NDArray[np.float64]
    shift_angstrom: NDArray[np.float64]
    recorded_shift_angstrom: NDArray[np.float64]
    defocus_u_angstrom: NDArray[np.float64]
    defocus_v_angstrom: NDArray[np.float64]
    defocus_angle_degrees: NDArray[np.float64]
    optics_group: NDArray[np.int64]
    half: NDArray[np.int64]

    def ctf(self, rows: slice, recipe: Recipe) -> CtfParameters:
        """CTF of some of the particles."""
        group = self.optics_group[rows]
        voltages = np.array(
            [recipe.group_voltage_kv(number) for number in range(recipe.optics_groups)]
        )

        def constant(value: float) -> Tensor:
            return torch.full((len(group),), value)

        return CtfParameters(
            defocus_u_angstrom=_tensor(self.defocus_u_angstrom[rows]),
            defocus_v_angstrom=_tensor(self.defocus_v_angstrom[rows]),
            defocus_angle_radians=_tensor(np.deg2rad(self.defocus_angle_degrees[rows])),
            phase_shift_radians=constant(float(np.deg2rad(recipe.phase_shift_degrees))),
            voltage_kv=_tensor(voltages[group]),
            spherical_aberration_mm=constant(recipe.spherical_aberration_mm),
            amplitude_contrast=constant(recipe.amplitude_contrast),
            b_factor_angstrom2=constant(0.0),
            scale=constant(1.0),
        )


def draw_particles(recipe: Recipe, state_coordinate: NDArray[np.float64]) -> SimulatedParticles:
    """Draw states, poses and CTFs.

    States, poses, CTFs and errors have random streams of their own: the same seed with another SNR,
    box or error shows the same particles.

    Parameters
    ----------
    recipe
        Numbers and ranges.
    state_coordinate
        (n_states, n_motions) in [0, 1]; motions are populated independently.

    Returns
    -------
    SimulatedParticles
        Orientations uniform over SO(3); halves of equal size, drawn at random.
    """
    state_rng, pose_rng, ctf_rng, error_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(recipe.seed).spawn(4)
    )
    n = recipe.n
    rotation = Rotation.from_quat(pose_rng.normal(size=(n, 4)))
    shift_px = pose_rng.uniform(-recipe.shift_px, recipe.shift_px, size=(n, 2))
    mean_defocus = ctf_rng.uniform(*recipe.defocus_um, size=n) * 1e4
    astigmatism = ctf_rng.uniform(0, recipe.astigmatism_angstrom, size=n)
    # A rotation vector with three independent components has a root mean square length of √3
    # component deviations.
    turn = Rotation.from_rotvec(
        np.deg2rad(recipe.pose_error_degrees / np.sqrt(3)) * error_rng.normal(size=(n, 3))
    )
    shift_error_px = recipe.shift_error_px * error_rng.normal(size=(n, 2))
    return SimulatedParticles(
        state=draw_states(state_rng, recipe, state_coordinate),
        rotation=rotation.as_matrix(),
        recorded_rotation=(rotation * turn).as_matrix(),
        shift_angstrom=shift_px * recipe.pixel_size,
        recorded_shift_angstrom=(shift_px + shift_error_px) * recipe.pixel_size,
        defocus_u_angstrom=mean_defocus + astigmatism / 2,
        defocus_v_angstrom=mean_defocus - astigmatism / 2,
        defocus_angle_degrees=ctf_rng.uniform(0, 180, size=n),
        optics_group=np.arange(n) % recipe.optics_groups,
        half=pose_rng.permutation(np.arange(n) % 2) + 1,
    )


def draw_states(
    rng: np.random.Generator, recipe: Recipe, state_coordinate: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Draw (n,) states: each as likely as another, or nearest to coordinates from the bimodal
    distribution.
    """
    if recipe.distribution == "uniform":
        return rng.integers(len(state_coordinate), size=recipe.n)
    share, mean, deviation = (np.array(column) for column in zip(*_BIMODAL, strict=True))
    component = rng.choice(len(share), p=share, size=(recipe.n, state_coordinate.shape[1]))
    coordinate = np.clip(rng.normal(mean[component], deviation[component]), 0, 1)
    _, nearest = cKDTree(state_coordinate).query(coordinate)
    return np.asarray(nearest, dtype=np.int64)


def _tensor(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
