"""Particle sets: what RELION's columns mean, slices, images read lazily, copies with every
column."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.mrc import write_stack
from kinesphere.io.star import read_star
from kinesphere.particles import ParticleSet, StoredImages

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
{rows}
"""
GROUPS = OPTICS.format(rows="2 second 200 2.0 0.07 2.0 8\n1 first 300 2.7 0.1 1.5 8")


def _table(columns: str, *rows: str, block: str = "particles") -> str:
    header = "\n".join(f"_rln{name} #{number}" for number, name in enumerate(columns.split(), 1))
    return f"\ndata_{block}\n\nloop_\n{header}\n" + "\n".join(rows) + "\n"


CTF = "Voltage SphericalAberration AmplitudeContrast DefocusU DefocusV DefocusAngle"
ANGLES = "AngleRot AngleTilt AnglePsi"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ParticleSet]:
    """Read a particle set from the text of its STAR file."""

    def _read(*text: str, **options: float) -> ParticleSet:
        path = tmp_path / "particles.star"
        path.write_text("".join(text))
        return ParticleSet.read(path, **options)

    return _read


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
        GROUPS, _table(columns, "1@a.mrcs 30 40 50 3.0 -1.5 2", "2@a.mrcs -100 170 300 0 0 1")
    )
    assert particles.has_poses
    for rotation, angles in zip(particles.rotation, [(30, 40, 50), (-100, 170, 300)], strict=True):
        np.testing.assert_allclose(rotation.T, _relion_matrix(*angles), atol=1e-12)
    np.testing.assert_array_equal(particles.shift_angstrom, [[-3.0, 1.5], [0, 0]])
    assert [particles.optics[i].name for i in particles.optics_group] == ["second", "first"]
    assert [particles.optics[i].pixel_size_angstrom for i in particles.optics_group] == [2.0, 1.5]
    assert not particles.has_ctf


def test_relion_30_counts_origins_in_pixels_of_the_detector_over_the_magnification(
    read: Callable[..., ParticleSet],
) -> None:
    columns = f"ImageName {ANGLES} OriginX OriginY Magnification DetectorPixelSize {CTF}"
    row = "1@a.mrcs 0 0 0 2.0 -4.0 37369.207 5.0 {} 2.7 0.1 12000 11000 30"
    particles = read(_table(columns, row.format(300), row.format(200), block="images"))
    np.testing.assert_allclose(
        [group.pixel_size_angstrom for group in particles.optics], 1.338, atol=1e-4
    )
    np.testing.assert_allclose(particles.shift_angstrom, [[-2.676, 5.352]] * 2, atol=1e-3)
    assert [particles.optics[i].voltage_kv for i in particles.optics_group] == [300, 200]
    assert len({group.name for group in particles.optics}) == 2


def test_origins_in_angstrom_go_before_pixels_and_a_contradiction_is_told(
    read: Callable[..., ParticleSet],
) -> None:
    columns = f"ImageName {ANGLES} OriginX OriginY OriginXAngst OriginYAngst OpticsGroup"
    agreeing = read(GROUPS, _table(columns, "1@a.mrcs 0 0 0 2 -4 4.00 -8.01 2"))
    assert not agreeing.warnings
    np.testing.assert_allclose(agreeing.shift_angstrom, [[-4.0, 8.01]])
    contradicting = read(
        GROUPS, _table(columns, "1@a.mrcs 0 0 0 2 -4 4 -8 2", "2@a.mrcs 0 0 0 2 -4 2 -4 2")
    )
    np.testing.assert_allclose(contradicting.shift_angstrom, [[-4, 8], [-2, 4]])
    assert "differ by up to 4.00 Å (row 2)" in contradicting.warnings[0]


def test_optional_columns_of_the_ctf_have_defaults(read: Callable[..., ParticleSet]) -> None:
    columns = "ImageName OpticsGroup DefocusU DefocusV DefocusAngle"
    plain = read(GROUPS, _table(columns, "1@a.mrcs 1 12000 11000 30"))
    assert plain.has_ctf
    assert (plain.phase_shift_degrees[0], plain.ctf_b_factor[0], plain.ctf_scale[0]) == (0, 0, 1)
    full = read(
        GROUPS,
        _table(
            f"{columns} PhaseShift CtfBfactor CtfScalefactor", "1@a.mrcs 1 12000 11000 30 90 -4 .5"
        ),
    )
    assert (full.phase_shift_degrees[0], full.ctf_b_factor[0], full.ctf_scale[0]) == (90, -4, 0.5)
    assert not full.has_poses
    assert "rlnAngleRot" in full.warnings[0]


def test_constants_in_the_row_go_before_the_optics_group(read: Callable[..., ParticleSet]) -> None:
    columns = "ImageName OpticsGroup DefocusU DefocusV DefocusAngle SphericalAberration"
    rows = [
        "1@a.mrcs 1 9000 9000 0 2.7",
        "2@a.mrcs 1 9000 9000 0 0.01",
        "3@a.mrcs 2 9000 9000 0 2.7",
    ]
    particles = read(GROUPS, _table(columns, *rows))
    constants = [particles.optics[i].spherical_aberration_mm for i in particles.optics_group]
    assert constants == [2.7, 0.01, 2.7]
    assert [particles.optics[i].voltage_kv for i in particles.optics_group] == [300, 300, 200]
    assert "row 2 is 0.01" in particles.warnings[0]


def test_pixel_size_comes_from_the_header_only_where_the_file_is_silent(
    read: Callable[..., ParticleSet], tmp_path: Path
) -> None:
    write_stack(tmp_path / "a.mrcs", np.ones((2, 6, 6), np.float32), 3.25)
    silent = read(_table("ImageName", "1@a.mrcs"))
    assert (silent.optics[0].pixel_size_angstrom, silent.optics[0].box_px) == (3.25, 6)
    assert "header" in silent.warnings[0]
    said = read(_table("ImageName PixelSize MicrographPixelSize", "1@a.mrcs 6.5 1.1"))
    assert said.optics[0].pixel_size_angstrom == 6.5
    assert "3.25" in said.warnings[0]
    (tmp_path / "a.mrcs").unlink()
    with pytest.raises(InputError, match="no pixel size.*--pixel-size"):
        read(_table("ImageName MicrographPixelSize", "1@a.mrcs 1.1"))
    assert (
        read(_table("ImageName", "1@a.mrcs"), pixel_size_angstrom=1.25)
        .optics[0]
        .pixel_size_angstrom
        == 1.25
    )


def test_a_corrected_pixel_size_scales_the_shifts(read: Callable[..., ParticleSet]) -> None:
    text = (
        GROUPS,
        _table(
            f"ImageName {ANGLES} OriginXAngst OriginYAngst OpticsGroup", "1@a.mrcs 0 0 0 3 -1.5 1"
        ),
    )
    np.testing.assert_allclose(read(*text, pixel_size_angstrom=6.0).shift_angstrom, [[-12.0, 6.0]])


def test_a_corrected_pixel_size_is_written(
    read: Callable[..., ParticleSet], tmp_path: Path
) -> None:
    """What is read back without the correction is what was used with it; in RELION 3.1 and in
    3.0."""
    new = _table(
        f"ImageName {ANGLES} OriginXAngst OriginYAngst OpticsGroup", "1@a.mrcs 0 0 0 3 -1.5 1"
    )
    old = _table(
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
    particles = read(GROUPS, _table("ImageName OpticsGroup RandomSubset", *rows))
    assert particles.half.tolist() == expected
    assert bool(particles.warnings[1:]) == ("3" in subsets)


def test_angles_never_estimated_are_no_poses(read: Callable[..., ParticleSet]) -> None:
    columns = f"ImageName OpticsGroup {ANGLES}"
    assert not read(
        GROUPS, _table(columns, "1@a.mrcs 1 0 0 -999", "2@a.mrcs 1 0 0 -999.0")
    ).has_poses
    with pytest.raises(InputError, match="1 particles have an angle of -999.*row 2"):
        read(GROUPS, _table(columns, "1@a.mrcs 1 0 0 0", "2@a.mrcs 1 0 0 -999.0"))
    with pytest.raises(InputError, match="no poses"):
        read(GROUPS, _table("ImageName OpticsGroup AnglePsi", "1@a.mrcs 1 -999")).require_poses()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_table("CoordinateX CoordinateY", "1 2"), "picked coordinates"),
        (_table("ImageName OpticsGroup") + "\n", "no particles"),
        (_table("ImageName OpticsGroup", "1@a.mrcs 7"), "row 1 belongs to optics group 7"),
        (_table("ImageName", "1@a.mrcs"), "2 optics groups.*no rlnOpticsGroup"),
        (_table("ImageName OpticsGroup", "0@a.mrcs 1"), "row 1.*does not count from 1"),
        (_table("ImageName OpticsGroup", "1@a.tif 1"), "a.tif, which is not MRC"),
        (
            _table("ImageName OpticsGroup DefocusU", "1@a.mrcs 1 9000"),
            "incomplete CTF.*rlnDefocusV",
        ),
        (_table(f"ImageName OpticsGroup {ANGLES}", "1@a.mrcs 1 0 nan 0"), "rlnAngleTilt of row 1"),
        (
            _table("ImageName OpticsGroup TomoName", "1@a.mrcs 1 t"),
            "sub-tomograms .column rlnTomoName",
        ),
        (
            _table("ImageName OpticsGroup CtfImage", "a.mrc 1 c.mrc"),
            "sub-tomograms .column rlnCtfImage",
        ),
        (
            _table("ImageName", "1@a.mrcs", block="x") + _table("ImageName", "1@a.mrcs", block="y"),
            "data_x and data_y",
        ),
        (_table("MicrographName", "m.mrc", block="micrographs"), "list of micrographs"),
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
        read(_table(columns, "1@a.mrcs 1.5 9000 9000 0 2.7 0.1"))


@pytest.fixture
def posed(read: Callable[..., ParticleSet], tmp_path: Path) -> ParticleSet:
    """Six particles in two groups and stacks, each image filled with its own number; two columns
    nobody knows."""
    (tmp_path / "stacks").mkdir()
    write_stack(
        tmp_path / "stacks" / "a.mrcs", np.full((3, 8, 8), [[[1]], [[2]], [[3]]], np.float32), 1.5
    )
    write_stack(
        tmp_path / "stacks" / "b.mrcs", np.full((3, 8, 8), [[[4]], [[5]], [[6]]], np.float32), 2.0
    )
    names = [
        "2@stacks/a.mrcs",
        "3@stacks/b.mrcs",
        "1@stacks/a.mrcs",
        "1@stacks/b.mrcs",
        "3@stacks/a.mrcs",
    ]
    rows = [
        f"{name} {1 + ('b' in name)} {10 * i} {20 * i} {30 * i} {i} {-i} 12000.10 11000 30 "
        f"{1 + i % 2} x{i} '{i} y'"
        for i, name in enumerate([*names, "2@stacks/b.mrcs"])
    ]
    columns = (
        f"ImageName OpticsGroup {ANGLES} OriginXAngst OriginYAngst DefocusU DefocusV "
        "DefocusAngle RandomSubset"
    )
    return read(GROUPS, _table(f"{columns} GroupName Remark", *rows))


def test_images_come_in_the_order_asked_for(posed: ParticleSet) -> None:
    assert posed.images(np.arange(6))[:, 0, 0].tolist() == [2, 6, 1, 4, 3, 5]
    assert posed[::-1].images([0, 5, 2])[:, 3, 4].tolist() == [5, 2, 4]
    assert posed.images([4]).dtype == np.float32


def test_slices_keep_every_attribute_in_step(posed: ParticleSet) -> None:
    order = [4, 0, 3]
    chosen = posed[order]
    for name in (
        "rotation",
        "shift_angstrom",
        "defocus_u_angstrom",
        "optics_group",
        "half",
        "row",
        "image_slot",
    ):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(posed, name)[order])
    assert len(posed[posed.half == 1]) == 3
    assert len(posed[2]) == 1
    assert posed[1:][0].row.tolist() == [1]
    assert len(posed[[]]) == 0
    with pytest.raises(IndexError):
        posed[[6]]


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


def test_images_are_found_from_a_copy_elsewhere(
    posed: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the project, from the project as the current folder, and from anywhere through the
    noted folder."""
    posed.write_star(tmp_path / "Refine3D" / "job001" / "below.star")
    assert (
        ParticleSet.read(tmp_path / "Refine3D" / "job001" / "below.star").images([0])[0, 0, 0] == 2
    )
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    posed.write_star(elsewhere / "noted.star")
    assert ParticleSet.read(elsewhere / "noted.star").images([0])[0, 0, 0] == 2
    (elsewhere / "bare.star").write_text(posed.source.read_text())
    with pytest.raises(InputError, match="stacks/a.mrcs, which is in none of"):
        ParticleSet.read(elsewhere / "bare.star").images([0])
    monkeypatch.chdir(tmp_path)
    assert ParticleSet.read(elsewhere / "bare.star").images([0])[0, 0, 0] == 2


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
    old = read(_table(columns, "1@a.mrcs 10 20 30 2 -4 40000 5", "2@a.mrcs 0 0 0 1 0 40000 5"))
    old.write_star(tmp_path / "new.star", images=StoredImages("new.mrcs", 2.5, 4))
    new = ParticleSet.read(tmp_path / "new.star")
    assert new.optics[0].pixel_size_angstrom == 2.5
    np.testing.assert_allclose(new.shift_angstrom, old.shift_angstrom)


def test_stack_shorter_than_the_file_asks_for(posed: ParticleSet, tmp_path: Path) -> None:
    write_stack(tmp_path / "stacks" / "b.mrcs", np.ones((2, 8, 8), np.float32), 2.0)
    with pytest.raises(InputError, match="row 2 asks for image 3 of .*b.mrcs, which holds 2"):
        ParticleSet.read(posed.source).images(np.arange(6))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_named(
    posed: ParticleSet, tmp_path: Path, value: float
) -> None:
    images = np.ones((3, 8, 8), np.float32)
    images[2, 4, 4] = value
    write_stack(tmp_path / "stacks" / "a.mrcs", images, 1.5)
    posed.images([0, 1, 2, 3])
    with pytest.raises(
        InputError, match=r"a.mrcs: image 3 \(row 5 of .*particles.star\) holds NaN or infinite"
    ):
        posed.images([0, 4])


def test_boxes_that_do_not_fit(posed: ParticleSet, tmp_path: Path) -> None:
    write_stack(tmp_path / "stacks" / "b.mrcs", np.ones((3, 6, 6), np.float32), 2.0)
    posed = ParticleSet.read(posed.source)
    with pytest.raises(InputError, match="6 x 6 px, others are 8 px"):
        posed.images([0, 1])
    with pytest.raises(InputError, match="box of second is 8 px, its images are 6 px"):
        posed.images([1, 3])


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
