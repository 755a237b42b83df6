"""Clean images are what RELION projects from the same potential."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinesphere.io.mrc import ImageStack, write_map
from kinesphere.io.star import write_star
from kinesphere.simulate.dataset import star_tables
from kinesphere.simulate.draws import draw_particles
from kinesphere.simulate.ensembles import adenylate_kinase
from kinesphere.simulate.images import clean_images
from kinesphere.simulate.recipe import Recipe
from kinesphere.simulate.scattering import potential_map


@pytest.mark.oracle
def test_images_agree_with_relion_project(relion: Callable[[str], Path], tmp_path: Path) -> None:
    # RELION applies the CTF in the image's own box, so no padding here; B = 90 Å² leaves nothing to
    # interpolate badly.
    recipe = Recipe(
        n=8,
        box=96,
        pixel_size=1.5,
        padding=1,
        b_factor=90.0,
        optics_groups=2,
        seed=11,
        phase_shift_degrees=20.0,
    )
    ensemble = adenylate_kinase(1).centred()
    draws = draw_particles(recipe, ensemble.coordinate)
    ours = np.concatenate(list(clean_images(ensemble, draws, recipe)))
    density = potential_map(
        ensemble.positions[0],
        ensemble.model.atomic_number,
        recipe.box,
        recipe.pixel_size,
        recipe.b_factor,
    )
    write_map(tmp_path / "map.mrc", density, recipe.pixel_size)
    write_star(tmp_path / "in.star", star_tables(draws, recipe, "none.mrcs"))
    command = [
        relion("relion_project"),
        "--i",
        "map.mrc",
        "--ang",
        "in.star",
        "--o",
        "out",
        "--ctf",
        "--angpix",
        "1.5",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = ImageStack(tmp_path / "out.mrcs")[:]
    for mine, reference in zip(ours, theirs, strict=True):
        assert np.corrcoef(mine.ravel(), reference.ravel())[0, 1] > 0.999
        assert (mine * reference).sum() / (reference**2).sum() / recipe.pixel_size == pytest.approx(
            1.0, abs=0.01
        )
