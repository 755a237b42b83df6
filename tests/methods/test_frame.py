"""The frame of a model: where zero is, and models that do not lie in their map are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from helpers.fake_run import helix_bundle
from helpers.star_text import GROUPS, star_table
from kinesphere.errors import InputError
from kinesphere.io.mrc import DensityMap, write_map
from kinesphere.methods.frame import find_centre, require_fit, require_inside
from kinesphere.motion.reference import Reference, build_reference
from kinesphere.particles import ParticleSet

BOX, PIXEL_ANGSTROM = 32, 2.0
MODEL = helix_bundle()
CENTRE = MODEL.positions_angstrom.mean(0)
SOURCE = Path("model.pdb")


@pytest.fixture
def particles(tmp_path: Path) -> ParticleSet:
    """Particles of 8 px at 1.5 Å."""
    path = tmp_path / "particles.star"
    path.write_text(GROUPS + star_table("ImageName OpticsGroup", "1@a.mrcs 1"))
    return ParticleSet.read(path)


@pytest.fixture
def reference() -> Reference:
    """The model about the centre of the box."""
    return build_reference(MODEL, CENTRE, source="model.pdb")


@pytest.fixture
def density(reference: Reference, tmp_path: Path) -> Path:
    """A map of that model."""
    grid = np.zeros((BOX, BOX, BOX))
    cell = np.rint(reference.beads.numpy()[:, ::-1] / PIXEL_ANGSTROM).astype(int) + BOX // 2
    np.add.at(grid, tuple(cell.T), reference.amplitude.numpy())
    path = tmp_path / "map.mrc"
    write_map(path, ndimage.gaussian_filter(grid, 1.0).astype(np.float32), PIXEL_ANGSTROM)
    return path


def test_without_a_map_the_centre_is_where_relions_maps_have_it(particles: ParticleSet) -> None:
    np.testing.assert_array_equal(find_centre(particles, None), [6.0, 6.0, 6.0])  # 1.5 Å × 8 // 2


def test_a_map_brings_its_own_frame(particles: ParticleSet, tmp_path: Path) -> None:
    """Of half as many voxels of twice the size: as large as the images are."""
    like = DensityMap(np.zeros((4, 4, 4), np.float32), 3.0, np.array([10.0, -20.0, 30.0]))
    write_map(tmp_path / "map.mrc", np.ones((4, 4, 4), np.float32), like)
    centre = find_centre(particles, tmp_path / "map.mrc")
    np.testing.assert_allclose(centre, [16.0, -14.0, 36.0], atol=1e-4)


def test_a_map_of_another_size_is_refused(particles: ParticleSet, tmp_path: Path) -> None:
    write_map(tmp_path / "map.mrc", np.ones((4, 4, 4), np.float32), 2.0)
    with pytest.raises(InputError, match=r"map\.mrc: the map spans 8\.0 Å, the particle images 12"):
        find_centre(particles, tmp_path / "map.mrc")


def test_a_model_outside_the_box_is_refused(reference: Reference) -> None:
    half = float(reference.points.abs().max())
    require_inside(reference, half, SOURCE)
    away = replace(reference, points=reference.points + torch.tensor([0.0, 3.0 * half, 0.0]))
    with pytest.raises(InputError, match=r"100% of the model lies outside .* its centre is"):
        require_inside(away, half, SOURCE)


def test_a_model_in_its_map_fits_and_one_beside_it_is_told_how_to_move(
    reference: Reference, density: Path
) -> None:
    require_fit(reference, density, SOURCE)
    slightly = replace(reference, beads=reference.beads + torch.tensor([2.0, -2.0, 0.0]))
    require_fit(slightly, density, SOURCE)
    far = replace(reference, beads=reference.beads + torch.tensor([8.0, 0.0, -10.0]))
    with pytest.raises(InputError, match=r"moved by \(-8 [+-]0 \+10\) Å in x y z it would fit"):
        require_fit(far, density, SOURCE)
