"""`kinesphere preprocess`: one stack that RELION reads, and a table that keeps everything else."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import starfile
import torch
from numpy.typing import NDArray

from kinesphere.cli.main import main
from kinesphere.io.mrc import ImageStack, read_map, write_stack
from kinesphere.particles import ParticleSet
from kinesphere.particles.preprocess import background_statistics, fourier_crop_images
from kinesphere.particles.streaming import ImageLoader

OPTICS = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
"""
PARTICLES = """
data_particles

loop_
_rlnImageName #1
_rlnLaboratoryNote #2
_rlnAngleRot #3
_rlnAngleTilt #4
_rlnAnglePsi #5
_rlnOriginXAngst #6
_rlnOriginYAngst #7
_rlnDefocusU #8
_rlnDefocusV #9
_rlnDefocusAngle #10
_rlnOpticsGroup #11
"""
OLD_STYLE = """
data_

loop_
_rlnImageName #1
_rlnOriginX #2
_rlnOriginY #3
_rlnMagnification #4
_rlnDetectorPixelSize #5
"""


def _noise(count: int, box: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(100, 7, (count, box, box)).astype(np.float32)


def _write_set(folder: Path, *groups: tuple[NDArray[np.float32], float]) -> Path:
    """Write a RELION 3.1 set of one stack a group, with a column that no program knows."""
    optics, rows = [], []
    for number, (images, pixel_size) in enumerate(groups, 1):
        write_stack(folder / f"raw{number}.mrcs", images, pixel_size)
        optics.append(f"{number} group{number} 300.0 2.7 0.1 {pixel_size} {images.shape[-1]} 2\n")
        rows += [
            f"{i:06d}@raw{number}.mrcs note_{i} 1.50 2.50 3.500 -4.250 5.0 15000 14500 30.0 "
            f"{number}\n"
            for i in range(1, len(images) + 1)
        ]
    path = folder / "in.star"
    path.write_text(OPTICS + "".join(optics) + PARTICLES + "".join(rows))
    return path


def _preprocess(*arguments: str | Path) -> int:
    return main(["preprocess", *map(str, arguments)])


def test_cropped_and_normalised_with_every_column_kept(tmp_path: Path) -> None:
    images = _noise(70, 32)
    source, out = _write_set(tmp_path, (images, 1.5)), tmp_path / "job" / "small"
    assert _preprocess(source, "--out", out, "--box", "24", "--normalise") == 0

    cropped = fourier_crop_images(torch.from_numpy(images), 24)
    mean, sd = background_statistics(cropped, 9.0)
    expected = (cropped - mean[:, None, None]) / sd[:, None, None]
    np.testing.assert_allclose(ImageStack(out / "particles.mrcs")[:], expected.numpy(), atol=1e-4)
    before, after = (
        starfile.read(path, always_dict=True, parse_as_string="all")
        for path in (source, out / "particles.star")
    )
    assert list(after["particles"].columns) == list(before["particles"].columns)
    for column in before["particles"].columns.drop("rlnImageName"):
        assert list(after["particles"][column]) == list(before["particles"][column])
    assert after["particles"]["rlnImageName"].iloc[69] == f"000070@{out}/particles.mrcs"
    assert (
        after["optics"]["rlnImagePixelSize"].iloc[0],
        after["optics"]["rlnImageSize"].iloc[0],
    ) == (2.0, 24)


def test_written_set_reads_back_with_the_same_shifts_in_angstrom(tmp_path: Path) -> None:
    source = _write_set(tmp_path, (_noise(5, 32), 1.5))
    assert _preprocess(source, "--out", tmp_path / "out", "--box", "16") == 0
    particles = ParticleSet.read(tmp_path / "out" / "particles.star")
    assert particles.optics[0].pixel_size_angstrom == 3.0
    np.testing.assert_array_equal(particles.shift_angstrom, ParticleSet.read(source).shift_angstrom)
    assert particles.images([4]).shape == (1, 16, 16)


def test_origins_in_pixels_follow_the_pixel_size(tmp_path: Path) -> None:
    write_stack(tmp_path / "raw.mrcs", _noise(2, 32), 1.5)
    (tmp_path / "in.star").write_text(
        OLD_STYLE + "1@raw.mrcs 3.0 -4.0 10000 1.5\n2@raw.mrcs 0.5 0.0 10000 1.5\n"
    )
    assert _preprocess(tmp_path / "in.star", "--out", tmp_path / "out", "--box", "16") == 0
    table = starfile.read(tmp_path / "out" / "particles.star")
    np.testing.assert_allclose(table["rlnOriginX"], [1.5, 0.25])
    np.testing.assert_allclose(table["rlnOriginY"], [-2.0, 0.0])
    again = ParticleSet.read(tmp_path / "out" / "particles.star")
    np.testing.assert_allclose(again.shift_angstrom, [[-4.5, 6.0], [-0.75, 0.0]])


def test_groups_of_two_pixel_sizes_become_one_stack(tmp_path: Path) -> None:
    source = _write_set(tmp_path, (_noise(3, 64), 1.5), (_noise(4, 48, 1), 2.0))
    assert _preprocess(source, "--out", tmp_path / "out") == 0
    particles = ParticleSet.read(tmp_path / "out" / "particles.star")
    assert [(group.box_px, group.pixel_size_angstrom) for group in particles.optics] == [
        (48, 2.0),
        (48, 2.0),
    ]
    np.testing.assert_array_equal(particles.optics_group, [0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(particles.images([5])[0], _noise(4, 48, 1)[2])


def test_inverted(tmp_path: Path) -> None:
    images = _noise(3, 16)
    assert (
        _preprocess(
            _write_set(tmp_path, (images, 2.0)), "--out", tmp_path / "out", "--invert-contrast"
        )
        == 0
    )
    np.testing.assert_array_equal(ImageStack(tmp_path / "out" / "particles.mrcs")[:], -images)


def test_an_earlier_result_is_replaced_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = _write_set(tmp_path, (_noise(3, 16), 2.0)), tmp_path / "out"
    assert _preprocess(source, "--out", out) == 0
    before = (out / "particles.mrcs").read_bytes()
    assert _preprocess(source, "--out", out, "--box", "8") == 2
    assert "--overwrite" in _words(capsys)
    assert (out / "particles.mrcs").read_bytes() == before
    assert _preprocess(source, "--out", out, "--box", "8", "--overwrite") == 0
    assert ImageStack(out / "particles.mrcs").shape == (3, 8, 8)


def test_the_input_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = _write_set(tmp_path, (_noise(3, 16), 2.0)), tmp_path / "out"
    assert _preprocess(source, "--out", out) == 0
    assert _preprocess(out / "particles.star", "--out", out, "--box", "8", "--overwrite") == 2
    assert "holds the particles to be processed" in _words(capsys)


@pytest.mark.parametrize(
    ("value", "words"), [(5.0, "image 2 of raw1.mrcs (row 2) is constant"), (np.nan, "NaN")]
)
def test_an_unusable_image_ends_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, words: str
) -> None:
    images = _noise(3, 16)
    images[1] = value
    assert _preprocess(_write_set(tmp_path, (images, 2.0)), "--out", tmp_path / "out") == 2
    assert words in _words(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--box", "15"], "even box from 8 to 16 px"),
        (["--box", "32"], "cannot bring a box of 16 px to 32 px"),
        (["--normalise", "--background-radius-fraction", "2"], "leaves no background"),
    ],
)
def test_impossible_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert (
        _preprocess(_write_set(tmp_path, (_noise(3, 16), 2.0)), "--out", tmp_path / "out", *options)
        == 2
    )
    assert words in _words(capsys)


def test_stack_shorter_than_the_table_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _write_set(tmp_path, (_noise(3, 16), 2.0))
    write_stack(tmp_path / "raw1.mrcs", _noise(2, 16), 2.0)
    assert _preprocess(source, "--out", tmp_path / "out") == 2
    assert "row 3 asks for image 3" in _words(capsys)
    assert not (tmp_path / "out").exists()


def test_missing_stack_is_noticed_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _write_set(tmp_path, (_noise(3, 16), 2.0), (_noise(3, 16), 2.0))
    (tmp_path / "raw2.mrcs").unlink()
    assert _preprocess(source, "--out", tmp_path / "out") == 2
    assert "names raw2.mrcs" in _words(capsys)
    assert not (tmp_path / "out").exists()


def test_a_stop_signal_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ImageLoader.load
    signals = iter([signal.SIGTERM])  # a second one would end the program at once

    def load_and_stop(self: ImageLoader, rows: NDArray[np.int64]) -> torch.Tensor:
        for number in signals:
            signal.raise_signal(number)
        return load(self, rows)

    source = _write_set(tmp_path, (_noise(200, 16), 2.0))
    monkeypatch.setattr(ImageLoader, "load", load_and_stop)
    assert _preprocess(source, "--out", tmp_path / "out") == 128 + signal.SIGTERM
    assert not (tmp_path / "out").exists()


@pytest.mark.oracle
def test_relion_reconstructs_the_map_that_its_own_rescaling_gives(
    shared_data: Callable[[str], Path],
    relion: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RELION reads the set, and centre, shifts and scale of the images are those of
    `relion_preprocess --scale`."""
    monkeypatch.chdir(tmp_path)
    ParticleSet.read(shared_data("adk") / "particles.star")[:400].write_star("subset.star")
    for name, options in (("same", []), ("ours", ["--box", "48"]), ("theirs", ["--box", "48"])):
        assert _preprocess("subset.star", "--out", name, *options) == 0
    rescale = [relion("relion_preprocess"), "--operate_on", "same/particles.mrcs", "--scale", "48"]
    subprocess.run(
        [*map(str, rescale), "--operate_out", "theirs/particles.mrcs"],
        check=True,
        capture_output=True,
    )
    spectra = []
    for name in ("ours", "theirs"):
        command = [
            str(relion("relion_reconstruct")),
            "--i",
            f"{name}/particles.star",
            "--o",
            f"{name}.mrc",
            "--ctf",
        ]
        subprocess.run(command, check=True, capture_output=True)
        volume = read_map(f"{name}.mrc")
        assert volume.pixel_size_angstrom == pytest.approx(2.0)
        spectra.append(_low_frequencies(volume.data, 16))
    ours, theirs = spectra
    assert np.vdot(ours, theirs).real / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.9998
    assert np.linalg.norm(ours) / np.linalg.norm(theirs) == pytest.approx(1.0, abs=2e-3)


def _low_frequencies(volume: NDArray[np.float32], radius: int) -> NDArray[np.complex128]:
    """Fourier coefficients about the centre, up to a radius in shells."""
    fourier = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume)))
    middle = len(volume) // 2
    axis = np.arange(-radius, radius + 1)
    inside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= radius**2
    return fourier[np.ix_(*[axis + middle] * 3)][inside]


def _words(capsys: pytest.CaptureFixture[str]) -> str:
    """Everything printed since the last look, without the terminal's line breaks."""
    return re.sub(r"\s+", " ", capsys.readouterr().err)
