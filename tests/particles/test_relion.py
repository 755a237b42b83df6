"""RELION's STAR files: what columns mean, what is refused, copies with every column."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.star_text import ANGLES, GROUPS, star_table
from kinesphere.errors import InputError
from kinesphere.io.mrc import write_stack
from kinesphere.io.star import read_star
from kinesphere.particles import ParticleSet, StoredImages


def _relion_matrix(rot: float, tilt: float, psi: float) -> NDArray[np.float64]:
    """A of Heymann et al. 2005, which turns coordinates of the volume into those of the image,
    element by element."""
    (ca, cb, cg), (sa, sb, sg) = (
        np.cos(np.deg2rad([rot, tilt, psi])),
        np.sin(np.deg2rad([rot, tilt, psi])),
    )
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def test_poses_of_relion_31(read: Callable[..., ParticleSet]) -> None:
    columns = f"ImageName {ANGLES} OriginXAngst OriginYAngst OpticsGroup"
    particles = read(
        GROUPS, star_table(columns, "1@a.mrcs 30 40 50 3.0 -1.5 2", "2@a.mrcs -100 170 300 0 0 1")
    )
    assert particles.has_poses
    for rotation, angles in zip(particles.rotation, [(30, 40, 50), (-100, 170, 300)], strict=True):
        np.testing.assert_allclose(rotation.T, _relion_matrix(*angles), atol=1e-12)
    np.testing.assert_array_equal(particles.shift_angstrom, [[-3.0, 1.5], [0, 0]])
    assert [particles.optics[i].name for i in particles.optics_group] == ["second", "first"]
    assert [particles.optics[i].pixel_size_angstrom for i in particles.optics_group] == [2.0, 1.5]
    assert not particles.has_ctf


def test_origins_in_angstrom_go_before_pixels_and_a_contradiction_is_told(
    read: Callable[..., ParticleSet],
) -> None:
    columns = f"ImageName {ANGLES} OriginX OriginY OriginXAngst OriginYAngst OpticsGroup"
    agreeing = read(GROUPS, star_table(columns, "1@a.mrcs 0 0 0 2 -4 4.00 -8.01 2"))
    assert not agreeing.warnings
    np.testing.assert_allclose(agreeing.shift_angstrom, [[-4.0, 8.01]])
    contradicting = read(
        GROUPS, star_table(columns, "1@a.mrcs 0 0 0 2 -4 4 -8 2", "2@a.mrcs 0 0 0 2 -4 2 -4 2")
    )
    np.testing.assert_allclose(contradicting.shift_angstrom, [[-4, 8], [-2, 4]])
    assert "differ by up to 4.00 Å (row 2)" in contradicting.warnings[0]


def test_optional_columns_of_the_ctf_have_defaults(read: Callable[..., ParticleSet]) -> None:
    columns = "ImageName OpticsGroup DefocusU DefocusV DefocusAngle"
    plain = read(GROUPS, star_table(columns, "1@a.mrcs 1 12000 11000 30"))
    assert plain.has_ctf
    assert (plain.phase_shift_degrees[0], plain.ctf_b_factor[0], plain.ctf_scale[0]) == (0, 0, 1)
    full = read(
        GROUPS,
        star_table(
            f"{columns} PhaseShift CtfBfactor CtfScalefactor", "1@a.mrcs 1 12000 11000 30 90 -4 .5"
        ),
    )
    assert (full.phase_shift_degrees[0], full.ctf_b_factor[0], full.ctf_scale[0]) == (90, -4, 0.5)
    assert not full.has_poses
    assert "rlnAngleRot" in full.warnings[0]


def test_a_corrected_pixel_size_scales_the_shifts(read: Callable[..., ParticleSet]) -> None:
    text = (
        GROUPS,
        star_table(
            f"ImageName {ANGLES} OriginXAngst OriginYAngst OpticsGroup", "1@a.mrcs 0 0 0 3 -1.5 1"
        ),
    )
    np.testing.assert_allclose(read(*text, pixel_size_angstrom=6.0).shift_angstrom, [[-12.0, 6.0]])


def test_a_corrected_pixel_size_is_written(
    read: Callable[..., ParticleSet], tmp_path: Path
) -> None:
    """What is read back without the correction is what was used with it; in RELION 3.1 and in
    3.0."""
    new = star_table(
        f"ImageName {ANGLES} OriginXAngst OriginYAngst OpticsGroup", "1@a.mrcs 0 0 0 3 -1.5 1"
    )
    old = star_table(
        f"ImageName {ANGLES} OriginX OriginY Magnification DetectorPixelSize",
        "1@a.mrcs 0 0 0 2 -1 1e4 1.5",
    )
    for text in (GROUPS + new, old):
        corrected = read(text, pixel_size_angstrom=6.0)
        corrected.write_star(tmp_path / "out.star")
        again = ParticleSet.read(tmp_path / "out.star")
        assert again.optics[again.optics_group[0]].pixel_size_angstrom == 6.0
        np.testing.assert_allclose(again.shift_angstrom, [[-12.0, 6.0]])


@pytest.mark.parametrize(
    ("subsets", "expected"), [("1 2 2", [1, 2, 2]), ("0 2 1", [0, 2, 1]), ("1 2 3", [0, 0, 0])]
)
def test_half_sets_are_read_where_they_are_two(
    read: Callable[..., ParticleSet], subsets: str, expected: list[int]
) -> None:
    rows = [f"{n}@a.mrcs 1 {subset}" for n, subset in enumerate(subsets.split(), 1)]
    particles = read(GROUPS, star_table("ImageName OpticsGroup RandomSubset", *rows))
    assert particles.half.tolist() == expected
    assert bool(particles.warnings[1:]) == ("3" in subsets)


def test_angles_never_estimated_are_no_poses(read: Callable[..., ParticleSet]) -> None:
    columns = f"ImageName OpticsGroup {ANGLES}"
    assert not read(
        GROUPS, star_table(columns, "1@a.mrcs 1 0 0 -999", "2@a.mrcs 1 0 0 -999.0")
    ).has_poses
    with pytest.raises(InputError, match="1 particles have an angle of -999.*row 2"):
        read(GROUPS, star_table(columns, "1@a.mrcs 1 0 0 0", "2@a.mrcs 1 0 0 -999.0"))
    with pytest.raises(InputError, match="no poses"):
        read(
            GROUPS, star_table("ImageName OpticsGroup AnglePsi", "1@a.mrcs 1 -999")
        ).require_poses()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (star_table("CoordinateX CoordinateY", "1 2"), "picked coordinates"),
        (star_table("ImageName OpticsGroup") + "\n", "no particles"),
        (star_table("ImageName OpticsGroup", "1@a.mrcs 7"), "row 1 belongs to optics group 7"),
        (star_table("ImageName", "1@a.mrcs"), "2 optics groups.*no rlnOpticsGroup"),
        (star_table("ImageName OpticsGroup", "0@a.mrcs 1"), "row 1.*does not count from 1"),
        (star_table("ImageName OpticsGroup", "1@a.tif 1"), "a.tif, which is not MRC"),
        (
            star_table("ImageName OpticsGroup DefocusU", "1@a.mrcs 1 9000"),
            "incomplete CTF.*rlnDefocusV",
        ),
        (
            star_table(f"ImageName OpticsGroup {ANGLES}", "1@a.mrcs 1 0 nan 0"),
            "rlnAngleTilt of row 1",
        ),
        (
            star_table("ImageName OpticsGroup TomoName", "1@a.mrcs 1 t"),
            "sub-tomograms .column rlnTomoName",
        ),
        (
            star_table("ImageName OpticsGroup CtfImage", "a.mrc 1 c.mrc"),
            "sub-tomograms .column rlnCtfImage",
        ),
        (
            star_table("ImageName", "1@a.mrcs", block="x")
            + star_table("ImageName", "1@a.mrcs", block="y"),
            "data_x and data_y",
        ),
        (star_table("MicrographName", "m.mrc", block="micrographs"), "list of micrographs"),
    ],
)
def test_files_that_cannot_be_used_say_why(
    read: Callable[..., ParticleSet], text: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(GROUPS, text)


def test_no_voltage_is_an_incomplete_ctf(read: Callable[..., ParticleSet]) -> None:
    columns = (
        "ImageName PixelSize DefocusU DefocusV DefocusAngle SphericalAberration AmplitudeContrast"
    )
    with pytest.raises(InputError, match="rlnVoltage missing. Add rlnVoltage"):
        read(star_table(columns, "1@a.mrcs 1.5 9000 9000 0 2.7 0.1"))


def test_subset_is_written_with_every_column_untouched(posed: ParticleSet, tmp_path: Path) -> None:
    latent = np.array([0.125, -3.0])
    posed[[5, 1]].write_star(tmp_path / "out.star", {"rlnKinesphereLatent1": latent})
    before = {t.block: t for t in read_star(posed.source).tables}
    after = {t.block: t for t in read_star(tmp_path / "out.star").tables}
    assert after["particles"].columns == (*before["particles"].columns, "rlnKinesphereLatent1")
    for name in before["particles"].columns:
        old = before["particles"].text(name)
        assert after["particles"].text(name) == [old[5], old[1]]
    assert {name: after["optics"].text(name) for name in after["optics"].columns} == {
        name: before["optics"].text(name) for name in before["optics"].columns
    }
    np.testing.assert_array_equal(after["particles"].numbers("rlnKinesphereLatent1"), latent)
    again = ParticleSet.read(tmp_path / "out.star")
    np.testing.assert_array_equal(again.rotation, posed.rotation[[5, 1]])
    assert again.images([0, 1])[:, 0, 0].tolist() == [5, 6]
    with pytest.raises(ValueError, match="2 particles"):
        posed[:2].write_star(tmp_path / "out.star", {"rlnX": [1.0, 2.0, 3.0]})


def test_any_column_can_be_read(posed: ParticleSet) -> None:
    assert posed[[3, 1]].column("rlnRemark").tolist() == ["3 y", "1 y"]
    assert posed[[3, 1]].column("rlnOriginYAngst").tolist() == [-3, -1]
    with pytest.raises(InputError, match="no column rlnRemarks. Did you mean rlnRemark"):
        posed.column("rlnRemarks")


def test_another_stack_is_described_as_it_is(posed: ParticleSet, tmp_path: Path) -> None:
    write_stack(tmp_path / "new.mrcs", posed.images(np.arange(6))[:, :4, :4], 3.0)
    posed.write_star(tmp_path / "new.star", images=StoredImages("new.mrcs", 3.0, 4))
    again = ParticleSet.read(tmp_path / "new.star")
    assert {(group.pixel_size_angstrom, group.box_px) for group in again.optics} == {(3.0, 4)}
    assert again.images(np.arange(6))[:, 0, 0].tolist() == [2, 6, 1, 4, 3, 5]
    np.testing.assert_array_equal(again.shift_angstrom, posed.shift_angstrom)


def test_another_stack_of_a_relion_30_file(
    read: Callable[..., ParticleSet], tmp_path: Path
) -> None:
    columns = f"ImageName {ANGLES} OriginX OriginY Magnification DetectorPixelSize"
    old = read(star_table(columns, "1@a.mrcs 10 20 30 2 -4 40000 5", "2@a.mrcs 0 0 0 1 0 40000 5"))
    old.write_star(tmp_path / "new.star", images=StoredImages("new.mrcs", 2.5, 4))
    new = ParticleSet.read(tmp_path / "new.star")
    assert new.optics[0].pixel_size_angstrom == 2.5
    np.testing.assert_allclose(new.shift_angstrom, old.shift_angstrom)


def test_star_cannot_become_a_cs_file(posed: ParticleSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written as .cs"):
        posed.write_cs(tmp_path / "out.cs")


@pytest.mark.oracle
def test_relion_reads_what_is_written(
    posed: ParticleSet, tmp_path: Path, relion: Callable[[str], Path]
) -> None:
    posed[1:].write_star(tmp_path / "out.star", {"rlnKinesphereLatent1": np.arange(5.0)})
    arguments = [
        "--i",
        "out.star",
        "--o",
        "kept.star",
        "--select",
        "rlnOriginXAngst",
        "--minval",
        "2.5",
    ]
    subprocess.run(
        [relion("relion_star_handler"), *arguments], cwd=tmp_path, check=True, capture_output=True
    )
    kept = ParticleSet.read(tmp_path / "kept.star")
    np.testing.assert_allclose(kept.rotation, posed[3:].rotation, atol=1e-6)
    np.testing.assert_allclose(kept.shift_angstrom, posed[3:].shift_angstrom)
    assert [kept.optics[i].name for i in kept.optics_group] == ["second", "first", "second"]
    assert kept.images([0, 1, 2])[:, 0, 0].tolist() == [4, 3, 5]
