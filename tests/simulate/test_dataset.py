"""A simulated set says what it holds: signal to noise, spectra, populations, frames and files
agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.mrc import ImageStack, read_map
from kinesphere.io.structure import read_model
from kinesphere.simulate.dataset import write_dataset
from kinesphere.simulate.draws import draw_particles
from kinesphere.simulate.ensembles import Ensemble, adenylate_kinase
from kinesphere.simulate.images import clean_images
from kinesphere.simulate.noise import draw_noise, noise_power
from kinesphere.simulate.recipe import Recipe

SMALL = Recipe(
    n=60, box=32, pixel_size=3.5, snr=0.2, seed=3, pose_error_degrees=2.0, shift_error_px=0.5
)


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(5)


@pytest.fixture(scope="module")
def folder(kinase: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated")
    write_dataset(path, kinase, SMALL, "A test.")
    return path


def _clean(ensemble: Ensemble, recipe: Recipe) -> np.ndarray:
    draws = draw_particles(recipe, ensemble.coordinate)
    return np.concatenate(list(clean_images(ensemble.centred(), draws, recipe)))


def test_images_are_scaled_clean_images_plus_noise_of_variance_one(
    kinase: Ensemble, folder: Path
) -> None:
    clean = _clean(kinase, SMALL)
    signal = clean * np.sqrt(SMALL.snr / clean.var(axis=(1, 2)).mean())
    assert signal.var(axis=(1, 2)).mean() == pytest.approx(SMALL.snr, rel=1e-5)
    noise = ImageStack(folder / "particles.mrcs")[:] - signal
    assert noise.var() == pytest.approx(1.0, abs=0.02)
    assert abs(noise.mean()) < 0.02
    assert abs(np.corrcoef(noise.ravel(), signal.ravel())[0, 1]) < 0.02


def test_coloured_noise_has_the_spectrum_asked_for() -> None:
    recipe = replace(SMALL, noise="coloured", noise_frequency=0.03, noise_exponent=3.0)
    power = noise_power(recipe)
    noise = draw_noise(np.random.default_rng(0), 4000, power)
    assert noise.var() == pytest.approx(1.0, rel=0.02)
    measured = (np.abs(np.fft.rfft2(noise)) ** 2).mean(axis=0) / SMALL.box**2
    assert measured == pytest.approx(power, rel=0.12)
    frequency = np.abs(np.fft.fftfreq(SMALL.box, SMALL.pixel_size))
    assert power[3, 0] / power[10, 0] == pytest.approx(
        (1 + (frequency[10] / 0.03) ** 3) / (1 + (frequency[3] / 0.03) ** 3)
    )


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
    other = draw_particles(replace(SMALL, seed=4), kinase.coordinate)
    assert not np.array_equal(other.rotation, draw_particles(SMALL, kinase.coordinate).rotation)


def test_negative_contrast_is_the_same_set_inverted(kinase: Ensemble, tmp_path: Path) -> None:
    recipe = replace(SMALL, n=5, snr=1e6)
    write_dataset(tmp_path / "white", kinase, recipe, "")
    write_dataset(tmp_path / "black", kinase, replace(recipe, contrast="negative"), "")
    white, black = (
        ImageStack(tmp_path / name / "particles.mrcs")[:] for name in ("white", "black")
    )
    assert np.corrcoef(white.ravel(), black.ravel())[0, 1] < -0.999


def test_protein_is_positive_at_low_resolution(kinase: Ensemble) -> None:
    recipe = replace(
        SMALL,
        n=20,
        amplitude_contrast=1.0,
        defocus_um=(0.0, 0.0),
        astigmatism_angstrom=0.0,
        shift_px=0.0,
    )
    images = _clean(kinase, recipe)
    assert (images[:, 14:18, 14:18].mean(axis=(1, 2)) > images[:, :4].mean(axis=(1, 2))).all()


def test_uniform_and_bimodal_populations(kinase: Ensemble) -> None:
    coordinate = np.linspace(0, 1, 21)[:, None]
    uniform = draw_particles(replace(SMALL, n=21_000), coordinate)
    assert np.bincount(uniform.state, minlength=21) == pytest.approx(np.full(21, 1000), rel=0.15)
    bimodal = coordinate[
        draw_particles(replace(SMALL, n=21_000, distribution="bimodal"), coordinate).state, 0
    ]
    assert (bimodal < 0.5).mean() == pytest.approx(0.65, abs=0.02)
    assert np.median(bimodal[bimodal < 0.5]) == pytest.approx(0.2, abs=0.03)
    assert np.median(bimodal[bimodal > 0.5]) == pytest.approx(0.8, abs=0.03)


def test_orientations_are_uniform_and_errors_as_large_as_said(kinase: Ensemble) -> None:
    draws = draw_particles(replace(SMALL, n=20_000), kinase.coordinate)
    direction = draws.rotation[:, :, 2]
    assert np.abs(direction.mean(axis=0)).max() < 0.02
    assert (direction**2).mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.01)
    error = Rotation.from_matrix(
        draws.rotation.transpose(0, 2, 1) @ draws.recorded_rotation
    ).magnitude()
    assert np.rad2deg(np.sqrt((error**2).mean())) == pytest.approx(2.0, rel=0.02)
    shift_error_px = (draws.recorded_shift_angstrom - draws.shift_angstrom) / SMALL.pixel_size
    assert shift_error_px.std() == pytest.approx(0.5, rel=0.02)
    assert np.bincount(draws.half).tolist() == [0, 10_000, 10_000]


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


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"n": 0}, "--n"),
        ({"box": 33}, "--box"),
        ({"snr": 0.0}, "--snr"),
        ({"pixel_size": -1.0}, "--pixel"),
    ],
)
def test_numbers_that_cannot_be_meant(change: dict[str, float], option: str) -> None:
    with pytest.raises(InputError, match=f"^{option}"):
        replace(SMALL, **change)
