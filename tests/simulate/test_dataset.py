"""A simulated set says what it holds: signal to noise, spectra, populations, frames and files
agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from helpers.simulated import SMALL, clean_particles
from kinesphere.errors import InputError
from kinesphere.io.mrc import ImageStack, read_map
from kinesphere.io.structure import read_model
from kinesphere.simulate.dataset import write_dataset
from kinesphere.simulate.draws import draw_particles
from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(5)


@pytest.fixture(scope="module")
def folder(kinase: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated")
    write_dataset(path, kinase, SMALL, "A test.")
    return path


def test_images_are_scaled_clean_images_plus_noise_of_variance_one(
    kinase: Ensemble, folder: Path
) -> None:
    clean = clean_particles(kinase, SMALL)
    signal = clean * np.sqrt(SMALL.snr / clean.var(axis=(1, 2)).mean())
    assert signal.var(axis=(1, 2)).mean() == pytest.approx(SMALL.snr, rel=1e-5)
    noise = ImageStack(folder / "particles.mrcs")[:] - signal
    assert noise.var() == pytest.approx(1.0, abs=0.02)
    assert abs(noise.mean()) < 0.02
    assert abs(np.corrcoef(noise.ravel(), signal.ravel())[0, 1]) < 0.02


def test_same_seed_same_particles_whatever_the_noise(
    kinase: Ensemble, folder: Path, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "again", kinase, SMALL, "A test.")
    assert (tmp_path / "again" / "particles.mrcs").read_bytes()[1024:] == (
        folder / "particles.mrcs"
    ).read_bytes()[1024:]
    write_dataset(
        tmp_path / "noisier", kinase, replace(SMALL, snr=0.01, noise="coloured"), "A test."
    )
    assert (tmp_path / "noisier" / "particles.star").read_text() == (
        folder / "particles.star"
    ).read_text()


def test_negative_contrast_is_the_same_set_inverted(kinase: Ensemble, tmp_path: Path) -> None:
    recipe = replace(SMALL, n=5, snr=1e6)
    write_dataset(tmp_path / "white", kinase, recipe, "")
    write_dataset(tmp_path / "black", kinase, replace(recipe, contrast="negative"), "")
    white, black = (
        ImageStack(tmp_path / name / "particles.mrcs")[:] for name in ("white", "black")
    )
    assert np.corrcoef(white.ravel(), black.ravel())[0, 1] < -0.999


def test_star_file_tells_pose_and_ctf(kinase: Ensemble, folder: Path) -> None:
    draws = draw_particles(SMALL, kinase.coordinate)
    document = gemmi.cif.read(str(folder / "particles.star"))
    table = document.find_block("particles").find(
        "_rln",
        [
            "AngleRot",
            "AngleTilt",
            "AnglePsi",
            "OriginXAngst",
            "OriginYAngst",
            "DefocusU",
            "DefocusAngle",
        ],
    )
    values = np.array([[float(item) for item in row] for row in table])
    assert Rotation.from_euler("ZYZ", values[:, :3], degrees=True).as_matrix() == pytest.approx(
        draws.recorded_rotation, abs=1e-6
    )
    assert -values[:, 3:5] == pytest.approx(draws.recorded_shift_angstrom, abs=1e-5)
    assert values[:, 5] == pytest.approx(draws.defocus_u_angstrom, abs=1e-4)
    assert values[:, 6] == pytest.approx(draws.defocus_angle_degrees, abs=1e-5)
    names = list(document.find_block("particles").find_values("_rlnImageName"))
    assert (names[0], names[-1]) == ("000001@particles.mrcs", "000060@particles.mrcs")


def test_optics_groups_differ_in_voltage(kinase: Ensemble, tmp_path: Path) -> None:
    recipe = replace(SMALL, n=4, optics_groups=2)
    draws = write_dataset(tmp_path, kinase, recipe, "")
    assert draws.ctf(slice(None), recipe).voltage_kv.tolist() == [300, 200, 300, 200]
    optics = gemmi.cif.read(str(tmp_path / "particles.star")).find_block("optics")
    assert [float(value) for value in optics.find_values("_rlnVoltage")] == [300, 200]


def test_model_truth_and_map_share_a_frame(folder: Path) -> None:
    model, density, truth = (
        read_model(folder / "model.cif"),
        read_map(folder / "consensus.mrc"),
        np.load(folder / "truth.npz"),
    )
    assert np.allclose(truth["ca_states"][0], model.centres_angstrom, atol=1e-3)
    assert np.allclose(truth["ca_states"].mean(axis=(0, 1)), density.centre_angstrom, atol=1e-3)
    at_atoms = np.round(
        (model.centres_angstrom - density.origin_angstrom) / density.pixel_size_angstrom
    ).astype(int)
    values = density.data[at_atoms[:, 2], at_atoms[:, 1], at_atoms[:, 0]]
    assert np.mean(values > density.data.mean() + density.data.std()) > 0.9


def test_truth_has_the_agreed_form(folder: Path) -> None:
    truth = np.load(folder / "truth.npz")
    shapes = {name: (truth[name].dtype.kind, truth[name].shape) for name in truth}
    assert shapes == {
        "coordinate": ("f", (60, 1)),
        "state": ("i", (60,)),
        "ca_states": ("f", (5, 214, 3)),
        "chain": ("U", (214,)),
        "resid": ("i", (214,)),
        "icode": ("U", (214,)),
        "state_coordinate": ("f", (5, 1)),
    }
    assert np.array_equal(truth["coordinate"], truth["state_coordinate"][truth["state"]])


def test_molecule_larger_than_the_box(kinase: Ensemble, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--box: the molecule is up to \d+ Å across"):
        write_dataset(tmp_path / "out", kinase, replace(SMALL, box=16), "")
    assert not (tmp_path / "out").exists()
