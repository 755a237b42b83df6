"""The forward model, and the reading of poses, shifts and CTF, against images that RELION projects
from a map.

The map is a sum of Gaussians two pixels wide, so smooth that RELION's interpolation is not what is
compared. Its images come back through `ParticleSet` and `prepare_images`, as a user's would, and
are compared coefficient by coefficient with what the forward model renders from the Gaussians'
positions.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.pose import project_points
from kinesphere.io.mrc import write_map
from kinesphere.io.star import write_star
from kinesphere.observations.options import ImagesConfig
from kinesphere.observations.prepare import prepare_images
from kinesphere.particles.particle_set import ParticleSet

BOX, PIXEL_ANGSTROM, WIDTH_ANGSTROM = 80, 1.6, 3.2
N_IMAGES = 16


@dataclass(frozen=True)
class Blobs:
    """A smooth molecule: positions (n, 3) in Å about the centre of the box, and amplitudes (n,)."""

    positions: np.ndarray
    amplitude: np.ndarray


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    """Forty Gaussians in a flattened ball, no symmetry."""
    draw = np.random.default_rng(5)
    return Blobs(
        draw.normal(size=(40, 3)) * [14.0, 9.0, 6.0] + [4.0, -3.0, 2.0], draw.uniform(0.5, 2.0, 40)
    )


def density(blobs: Blobs) -> np.ndarray:
    """The Gaussians sampled on voxels [z, y, x], the box centre n // 2 at zero; each integrates to
    its amplitude."""
    axis = (np.arange(BOX) - BOX // 2) * PIXEL_ANGSTROM
    waves = np.exp(
        -((axis[None, None] - blobs.positions[..., None]) ** 2) / (2 * WIDTH_ANGSTROM**2)
    )
    waves *= PIXEL_ANGSTROM / np.sqrt(2 * np.pi) / WIDTH_ANGSTROM
    total: np.ndarray = np.einsum(
        "g,gx,gy,gz->zyx", blobs.amplitude, waves[:, 0], waves[:, 1], waves[:, 2]
    )
    return total.astype(np.float32)


def optics_table() -> dict[str, ArrayLike]:
    """Two microscopes."""
    return {
        "rlnOpticsGroup": [1, 2],
        "rlnOpticsGroupName": ["krios", "glacios"],
        "rlnVoltage": [300.0, 200.0],
        "rlnSphericalAberration": [2.7, 0.01],
        "rlnAmplitudeContrast": [0.1, 0.07],
        "rlnImagePixelSize": [PIXEL_ANGSTROM] * 2,
        "rlnImageSize": [BOX] * 2,
        "rlnImageDimensionality": [2, 2],
    }


def particle_table(extra: Mapping[str, ArrayLike] | None = None) -> dict[str, ArrayLike]:
    """Random poses, shifts up to 8 Å and astigmatic defocus, in both optics groups."""
    draw = np.random.default_rng(7)
    defocus = draw.uniform(6000.0, 20000.0, N_IMAGES)
    return {
        "rlnImageName": [f"{row:06d}@none.mrcs" for row in range(1, N_IMAGES + 1)],
        "rlnOpticsGroup": 1 + np.arange(N_IMAGES) % 2,
        "rlnAngleRot": draw.uniform(-180, 180, N_IMAGES),
        "rlnAngleTilt": np.degrees(np.arccos(draw.uniform(-1, 1, N_IMAGES))),
        "rlnAnglePsi": draw.uniform(-180, 180, N_IMAGES),
        "rlnOriginXAngst": draw.uniform(-8, 8, N_IMAGES),
        "rlnOriginYAngst": draw.uniform(-8, 8, N_IMAGES),
        "rlnDefocusU": defocus + draw.uniform(0, 3000, N_IMAGES),
        "rlnDefocusV": defocus,
        "rlnDefocusAngle": draw.uniform(0, 180, N_IMAGES),
    } | dict(extra or {})


def project_with_relion(
    relion: Callable[[str], Path],
    folder: Path,
    blobs: Blobs,
    particles: Mapping[str, ArrayLike],
    *options: str,
) -> ParticleSet:
    """Let RELION make the images; read what it wrote."""
    write_map(folder / "map.mrc", density(blobs), PIXEL_ANGSTROM)
    write_star(folder / "in.star", {"optics": optics_table(), "particles": particles})
    command = [
        str(relion("relion_project")),
        "--i",
        "map.mrc",
        "--ang",
        "in.star",
        "--o",
        "out",
        *options,
    ]
    subprocess.run(
        [*command, "--angpix", str(PIXEL_ANGSTROM)], cwd=folder, check=True, capture_output=True
    )
    return ParticleSet.read(folder / "out.star")


def compare(
    particles: ParticleSet, blobs: Blobs, folder: Path, *, with_ctf: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation and scale of each image with the forward model, over all Fourier coefficients
    below Nyquist."""
    config = ImagesConfig(resolution_angstrom=2.01 * PIXEL_ANGSTROM, normalise=False)
    observations = prepare_images(particles, config, folder / "cache")
    amplitude = torch.from_numpy(blobs.amplitude).float()
    forward = ForwardModel(observations.band, amplitude, WIDTH_ANGSTROM)
    points = torch.from_numpy(blobs.positions).float().expand(N_IMAGES, -1, -1)
    model = forward.structure_factor(project_points(points, observations.rotation))
    if with_ctf:
        model = model * forward.transfer(observations.ctf)
    weight = observations.band.multiplicity

    def inner(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
        product: np.ndarray = ((left.conj() * right).real * weight).sum(1).double().numpy()
        return product

    data = observations.data
    cross, ours, theirs = inner(model, data), inner(model, model), inner(data, data)
    return cross / np.sqrt(ours * theirs), cross / ours


def assert_agreement(correlation: np.ndarray, scale: np.ndarray) -> None:
    """Every image, not their mean."""
    figures = (
        f"worst correlation {correlation.min():.6f}, scale {scale.min():.4f} to {scale.max():.4f}"
    )
    print(figures)  # noqa: T201 - the measured figures, shown by `pytest -s`
    assert correlation.min() >= 0.9999, figures
    assert np.abs(scale - 1.0).max() <= 0.01, figures


@pytest.mark.oracle
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"rlnPhaseShift": np.linspace(10.0, 120.0, N_IMAGES)},
        {
            "rlnCtfBfactor": np.linspace(0.0, 60.0, N_IMAGES),
            "rlnCtfScalefactor": np.linspace(0.5, 1.0, N_IMAGES),
        },
    ],
    ids=["astigmatism", "phase-plate", "envelope"],
)
def test_images_agree_with_relion_project(
    extra: dict[str, ArrayLike], relion: Callable[[str], Path], blobs: Blobs, tmp_path: Path
) -> None:
    particles = project_with_relion(relion, tmp_path, blobs, particle_table(extra), "--ctf")
    assert_agreement(*compare(particles, blobs, tmp_path, with_ctf=True))


@pytest.mark.oracle
def test_projections_without_ctf_agree_with_relion_project(
    relion: Callable[[str], Path], blobs: Blobs, tmp_path: Path
) -> None:
    particles = project_with_relion(relion, tmp_path, blobs, particle_table())
    assert_agreement(*compare(particles, blobs, tmp_path, with_ctf=False))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "wrong", ["rlnAngleRot", "rlnAnglePsi", "rlnOriginXAngst", "rlnDefocusAngle"]
)
def test_comparison_would_notice_a_wrong_sign(
    wrong: str, relion: Callable[[str], Path], blobs: Blobs, tmp_path: Path
) -> None:
    """The agreement means something: with one column's sign changed after projection, it is
    gone."""
    table = particle_table()
    particles = project_with_relion(relion, tmp_path, blobs, table, "--ctf")
    names = [f"{row:06d}@out.mrcs" for row in range(1, N_IMAGES + 1)]
    changed = table | {wrong: -np.asarray(table[wrong]), "rlnImageName": names}
    write_star(tmp_path / "changed.star", {"optics": optics_table(), "particles": changed})
    correlation, _ = compare(
        ParticleSet.read(tmp_path / "changed.star"), blobs, tmp_path, with_ctf=True
    )
    assert np.median(correlation) < 0.999
    assert len(particles) == N_IMAGES
