"""Homogeneous backprojection against `relion_reconstruct`, and our half maps through
`relion_postprocess`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.io.mrc import read_map, write_map
from kinesphere.particles import ParticleSet
from kinesphere.particles.streaming import ImageLoader, LoaderOptions
from kinesphere.reconstruction.backprojection import (
    HalfSums,
    Sweep,
    accumulate,
    deformed_map,
    homogeneous_map,
)
from kinesphere.reconstruction.displacement import NoMotion
from kinesphere.reconstruction.fsc import fourier_shell_correlation, half_map_fsc
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.masks import near_points, soft_edge, sphere_mask
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.support import Support
from kinesphere.simulate.dataset import write_dataset
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.recipe import Recipe
from kinesphere.simulate.scattering import potential_map

BOX, PIXEL_ANGSTROM, N_IMAGES = 64, 1.6, 1200


@dataclass(frozen=True)
class Still:
    """Images of a molecule that does not move, its map and a soft mask around it; our maps of both
    half sets."""

    folder: Path
    true_map: np.ndarray
    mask: np.ndarray
    inserted: np.ndarray
    pulled: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Still:
    """Two optics groups, shifts, astigmatism; signal-to-noise ratio 0.1."""
    folder = tmp_path_factory.mktemp("still")
    ensemble = adenylate_kinase(1).centred()
    recipe = Recipe(
        n=N_IMAGES, box=BOX, pixel_size=PIXEL_ANGSTROM, snr=0.1, optics_groups=2, seed=8
    )
    write_dataset(folder, ensemble, recipe, "A test.")
    atoms = ensemble.positions[0]
    grid = RenderGrid(BOX, PIXEL_ANGSTROM)
    true_map = potential_map(
        atoms, ensemble.model.atomic_number, BOX, PIXEL_ANGSTROM, recipe.b_factor
    )
    mask = soft_edge(near_points(atoms, grid, 4.0), 0.0, 5.0)
    particles = ParticleSet.read(folder / "particles.star")
    everything = np.arange(N_IMAGES)
    whole = _sum_up(particles, everything, near_points(atoms, grid, 14.0))
    halves = [
        _sum_up(particles, np.flatnonzero(particles.half == half), mask > 0)[0] for half in (1, 2)
    ]
    inserted, pulled = whole
    return Still(folder, true_map, mask, inserted, pulled, (halves[0], halves[1]))


def _sum_up(
    particles: ParticleSet, rows: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Map by slice insertion alone, and with the support pulled (along no motion)."""
    loader = ImageLoader(particles, LoaderOptions(shuffle=False, normalise=False))
    support = Support.of_voxels(inside, PIXEL_ANGSTROM)
    images = WeightedImages(particles, loader, noise_power(particles, loader, rows, 64))
    sums = HalfSums.empty(support)
    accumulate(Sweep(images, rows, DeformedProjector(support), NoMotion(support.n_nodes)), sums)
    return homogeneous_map(sums), deformed_map(sums, support)


@pytest.fixture(scope="module")
def theirs(still: Still, relion: Callable[[str], Path]) -> np.ndarray:
    """RELION's map of the same star file."""
    command = [relion("relion_reconstruct"), "--i", "particles.star", "--o", "relion.mrc", "--ctf"]
    subprocess.run(command, cwd=still.folder, check=True, capture_output=True)
    return read_map(still.folder / "relion.mrc").data


@pytest.mark.oracle
@pytest.mark.parametrize("way", ["inserted", "pulled"])
def test_homogeneous_map_agrees_with_relion_reconstruct(
    still: Still, theirs: np.ndarray, way: str
) -> None:
    ours = getattr(still, way)
    masked = fourier_shell_correlation(ours * still.mask, theirs * still.mask)
    assert masked[1 : BOX // 4 + 1].min() >= 0.99, masked
    # no mask but the sphere: the noise of the solvent agrees, too
    whole = fourier_shell_correlation(ours, theirs)
    assert whole[1 : BOX // 4 + 1].min() >= 0.99, whole
    scale = (ours * still.mask * theirs).sum() / (theirs**2 * still.mask).sum()
    assert scale == pytest.approx(1.0, abs=0.05)


@pytest.mark.oracle
def test_homogeneous_map_is_as_good_as_relions_up_to_nyquist(
    still: Still, theirs: np.ndarray
) -> None:
    ours, reference = (
        fourier_shell_correlation(density * still.mask, still.true_map * still.mask)[
            1 : BOX // 2 - 2
        ]
        for density in (still.pulled, theirs)
    )
    assert np.all(ours > reference - 0.02), ours - reference
    assert ours.mean() > reference.mean() - 0.002


@pytest.mark.oracle
def test_fsc_agrees_with_relion_postprocess(
    still: Still, relion: Callable[[str], Path], tmp_path: Path
) -> None:
    for number, half in enumerate(still.halves, start=1):
        write_map(tmp_path / f"half{number}.mrc", half, PIXEL_ANGSTROM)
    write_map(tmp_path / "mask.mrc", still.mask, PIXEL_ANGSTROM)
    (tmp_path / "post").mkdir()
    command = [
        relion("relion_postprocess"),
        "--i",
        "half1.mrc",
        "--mask",
        "mask.mrc",
        "--o",
        "post/process",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = _fsc_table(tmp_path / "post" / "process.star")
    ours = half_map_fsc(still.halves[0], still.halves[1], still.mask, PIXEL_ANGSTROM)
    shells = slice(1, BOX // 2 - 1)
    assert (
        np.abs(
            ours.unmasked[shells] - theirs["rlnFourierShellCorrelationUnmaskedMaps"][shells]
        ).max()
        < 0.01
    )
    assert (
        np.abs(ours.masked[shells] - theirs["rlnFourierShellCorrelationMaskedMaps"][shells]).max()
        < 0.01
    )
    # phases are random in both
    corrected = theirs["rlnFourierShellCorrelationCorrected"][shells]
    assert np.abs(ours.corrected[shells] - corrected).mean() < 0.05


def _fsc_table(path: Path) -> dict[str, np.ndarray]:
    """The fsc block of a postprocess STAR file."""
    lines = path.read_text().split("data_fsc")[1].split("data_")[0].splitlines()
    names = [line.split()[0][1:] for line in lines if line.startswith("_")]
    rows = [line.split() for line in lines if line.strip() and line.split()[0].isdigit()]
    return {
        name: np.array([float(row[number]) for row in rows]) for number, name in enumerate(names)
    }


@pytest.mark.oracle
def test_sphere_is_relions(still: Still, theirs: np.ndarray) -> None:
    # which fills the outside with almost one number; the FSC above sees where the edges are
    outside = sphere_mask(BOX, BOX / 2 + 3, 3.0) == 0
    assert np.abs(still.pulled[outside]).max() == 0
    assert theirs[outside].std() < 2e-2 * theirs.std()
