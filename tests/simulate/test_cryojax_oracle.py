"""Clean images are those inside a particle set that cryoJAX simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pytest

from kinesphere.imaging.pose import rotation_from_euler
from kinesphere.io.mrc import ImageStack, read_map
from kinesphere.io.structure import read_model
from kinesphere.simulate.draws import SimulatedParticles
from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.images import clean_images
from kinesphere.simulate.recipe import Recipe

N_IMAGES, SNR = 100, 0.05


@pytest.mark.oracle
def test_images_correlate_with_cryojax_as_well_as_noise_allows(
    shared_data: Callable[[str], Path],
) -> None:
    folder = shared_data("null")
    table = gemmi.cif.read(str(folder / "particles.star")).find_block("particles")

    def column(name: str) -> np.ndarray:
        return np.array([float(value) for value in table.find_values(f"_rln{name}")])[:N_IMAGES]

    rotation = rotation_from_euler(
        np.stack([column(f"Angle{name}") for name in ("Rot", "Tilt", "Psi")], axis=1)
    )
    shift = -np.stack([column("OriginXAngst"), column("OriginYAngst")], axis=1)
    draws = SimulatedParticles(
        state=np.zeros(N_IMAGES, dtype=np.int64),
        rotation=rotation,
        recorded_rotation=rotation,
        shift_angstrom=shift,
        recorded_shift_angstrom=shift,
        defocus_u_angstrom=column("DefocusU"),
        defocus_v_angstrom=column("DefocusV"),
        defocus_angle_degrees=column("DefocusAngle"),
        optics_group=np.zeros(N_IMAGES, dtype=np.int64),
        half=np.ones(N_IMAGES, dtype=np.int64),
    )
    model = read_model(folder / "model.pdb")
    in_box = model.positions_angstrom - read_map(folder / "consensus.mrc").centre_angstrom
    ensemble = Ensemble(model, in_box[None], np.zeros((1, 1)))
    clean = np.concatenate(
        list(clean_images(ensemble, draws, Recipe(n=N_IMAGES, box=64, pixel_size=4.2)))
    )
    noisy = ImageStack(folder / "particles.mrcs")[:N_IMAGES]
    found = [
        np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
        for ours, theirs in zip(clean, noisy, strict=True)
    ]
    # An image of SNR s correlates with its own clean image by √(s / (1 + s)).
    snr = SNR * clean.var(axis=(1, 2)) / clean.var(axis=(1, 2)).mean()
    assert np.mean(found) > 0.98 * np.mean(np.sqrt(snr / (1 + snr)))
