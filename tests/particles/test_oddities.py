"""Real particle files of many programs: each is read right, or refused with words that say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import starfile

from kinesphere.errors import InputError
from kinesphere.particles import ParticleSet


@dataclass(frozen=True)
class Expected:
    """What a file holds: particles, Å/px and box of the first group, groups, poses, CTF, and sizes
    of the halves."""

    n: int
    pixel: float
    box: int
    groups: int = 1
    poses: bool = True
    ctf: bool = True
    halves: tuple[int, int] = (0, 0)


READ = {
    "both_origins_24_rows.star": Expected(24, 3.54, 64),
    "m_tilt_no_hash_numbers.star": Expected(10, 3.9, 0, groups=9, halves=(4, 6)),
    "no_poses_old_style.star": Expected(7, 1.309998, 0, poses=False),
    "optics_but_no_group_column.star": Expected(13, 1.035, 300, poses=False),
    "picked_psi_minus999.star": Expected(5, 4.0, 100, poses=False),
    "pyem_both_origins_one_row.star": Expected(1, 3.54, 64),
    "relion30_block_model_class_1.star": Expected(17, 1.338, 0, groups=2, halves=(10, 7)),
    "relion30_pfcrt.star": Expected(5, 1.035, 0, halves=(1, 4)),
    "relion31_452_posed.star": Expected(452, 1.911, 128, halves=(222, 230)),
    "relion31_cs0.01.star": Expected(5, 2.806, 256, halves=(5, 0)),
    "relion31_magmat_beamtilt_zernike.star": Expected(1, 1.1, 300, halves=(1, 0)),
    "relion31_particles_before_optics.star": Expected(5, 2.806, 256, halves=(5, 0)),
    "relion31_six_optics_groups.star": Expected(139, 1.25, 196, groups=6, halves=(74, 65)),
    "relion31_two_groups_300_200kv_no_image_size.star": Expected(
        17, 1.4, 0, groups=2, halves=(10, 7)
    ),
    "relion5_100kv.star": Expected(17, 0.89, 448, halves=(11, 6)),
    "starfile_written_relion31.star": Expected(262, 1.40625, 256),
    "warp_m_tilt_wrong_pixel_size.star": Expected(219, 1.96, 0, halves=(39, 180)),
    "cryosparc_P12_J24_2019_posed.cs": Expected(2019, 2.95, 180, halves=(1010, 1009)),
    "cryosparc_exported_alignments2D_only.cs": Expected(22, 1.345, 300, poses=False),
    "cryosparc_imported_no_poses.cs": Expected(7, 1.309998, 320, poses=False),
}

REFUSED = {
    "blocks_without_names.star": "2 tables of images, in data_block_2 and data_block_3",
    "empty_loop.star": "no particles",
    "git_lfs_pointer.star": "git-lfs pointer",
    "incomplete_ctf.star": "incomplete CTF: rlnDefocusU is there, rlnVoltage missing",
    "not_particles_micrographs.star": "list of micrographs",
    "not_particles_model.star": "RELION model",
    "not_particles_pipeline.star": "RELION pipeline",
    "not_particles_postprocess.star": "RELION postprocess",
    "not_particles_sampling.star": "RELION sampling",
    "not_relion_ragged_loop.star": "row 4 of data_planetary .line 20. has 5 values for 4 columns",
    "one_loop_nameless.star": "sub-tomograms .column rlnCtfImage",
    "quotes_basic_double.star": "no particle images",
    "quotes_basic_single.star": "no particle images",
    "quotes_loop_double.star": "no particle images",
    "quotes_loop_single.star": "no particle images",
    "relion30_subtomo.star": "sub-tomograms .column rlnCtfImage",
    "relion31_subtomo_3d.star": "sub-tomograms .rlnImageDimensionality is 3",
    "relion31_subtomo_comment_between_block_and_loop.star": (
        "sub-tomograms .rlnImageDimensionality is 3"
    ),
    "relion40_subtomo.star": "sub-tomograms .rlnImageDimensionality is 3",
    "relion50_run_data_first200.star": "sub-tomograms .rlnImageDimensionality is 3",
    "relion5_tomo_general_block_first200.star": "sub-tomograms .rlnTomoSubTomosAre2DStacks",
    "relion_project_output_no_optics.star": "no pixel size.*--pixel-size",
    "single_row_end_of_multiblock.star": "2 tables of images, in data_block_1 and data_block_2",
    "stopgap_motivelist_first200.star": "STOPGAP motive list",
    "two_single_row_blocks.star": "no particle images",
    "warp2_five_optics_groups.star": "sub-tomograms .rlnTomoSubTomosAre2DStacks",
    "cryosparc_empty_106_columns.cs": "no particles: it has no rows",
    "cryosparc_headerless_raw.cs": "no NumPy header",
}


@pytest.fixture
def oddity(shared_data: Callable[[str], Path]) -> Callable[[str], Path]:
    """Find one of the files."""
    return lambda name: shared_data("oddities") / name


def test_every_file_has_an_expectation(shared_data: Callable[[str], Path]) -> None:
    files = {
        path.name for path in shared_data("oddities").iterdir() if path.suffix in {".star", ".cs"}
    }
    assert files == set(READ) | set(REFUSED)


@pytest.mark.parametrize("name", sorted(READ))
def test_is_read_right(oddity: Callable[[str], Path], name: str) -> None:
    expected = READ[name]
    particles = ParticleSet.read(oddity(name))
    assert len(particles) == expected.n
    assert particles.optics[0].pixel_size_angstrom == pytest.approx(expected.pixel, abs=5e-5)
    assert particles.optics[0].box_px == expected.box
    assert len(particles.optics) == expected.groups
    assert (particles.has_poses, particles.has_ctf) == (expected.poses, expected.ctf)
    assert tuple(np.bincount(particles.half, minlength=3)[1:]) == expected.halves
    assert np.isfinite(particles.shift_angstrom).all()
    np.testing.assert_allclose(np.linalg.det(particles.rotation), 1.0, atol=1e-9)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_is_refused_in_one_line(oddity: Callable[[str], Path], name: str) -> None:
    with pytest.raises(InputError, match=REFUSED[name]) as refusal:
        ParticleSet.read(oddity(name))
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.remedy


@pytest.mark.parametrize("name", sorted(name for name in READ if name.endswith(".star")))
def test_a_subset_keeps_every_value(
    oddity: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """Compared with starfile's reading of both files, value by value."""
    particles = ParticleSet.read(oddity(name))
    rows = np.arange(len(particles))[::-2]
    particles[rows].write_star(tmp_path / "out.star")
    before, after = (
        starfile.read(p, always_dict=True, parse_as_string=[])
        for p in (oddity(name), tmp_path / "out.star")
    )
    assert list(before) == list(after)
    for block in before:
        keep = rows if "rlnImageName" in before[block] else slice(None)
        assert (
            before[block]
            .iloc[keep]
            .reset_index(drop=True)
            .equals(after[block].reset_index(drop=True))
        )


def test_the_two_origins_of_a_file_agree(oddity: Callable[[str], Path]) -> None:
    particles = ParticleSet.read(oddity("both_origins_24_rows.star"))
    assert particles.warnings == ()
    pixels = np.stack([particles.column("rlnOriginX"), particles.column("rlnOriginY")], axis=1)
    np.testing.assert_allclose(particles.shift_angstrom, -3.54 * pixels, atol=1e-4)


def test_groups_of_six_are_matched_by_number_not_by_name_or_place(
    oddity: Callable[[str], Path],
) -> None:
    particles = ParticleSet.read(oddity("relion31_six_optics_groups.star"))
    number = particles.column("rlnOpticsGroup").astype(int)
    names = np.array(
        [
            "opticsGroup5",
            "opticsGroup3",
            "opticsGroup2",
            "opticsGroup1",
            "opticsGroup4",
            "opticsGroup6",
        ]
    )
    assert [particles.optics[i].name for i in particles.optics_group] == names[number - 1].tolist()
    by_name = {group.name: group for group in particles.optics}
    assert by_name["opticsGroup1"].spherical_aberration_mm == 2.6
    assert by_name["opticsGroup3"].pixel_size_angstrom == 1.24
    fields = {effect.partition(" = ")[0] for _, effect in particles.unsupported_optics()}
    assert fields == {"rlnBeamTiltX, Y (mrad)", "rlnOddZernike", "rlnEvenZernike", "rlnMagMat"}


def test_posed_cryosparc_file_survives_the_way_through_a_star_file(
    oddity: Callable[[str], Path], tmp_path: Path
) -> None:
    particles = ParticleSet.read(oddity("cryosparc_P12_J24_2019_posed.cs"))
    particles.write_star(tmp_path / "out.star")
    again = ParticleSet.read(tmp_path / "out.star")
    np.testing.assert_allclose(again.rotation, particles.rotation, atol=1e-7)
    np.testing.assert_allclose(again.shift_angstrom, particles.shift_angstrom, atol=1e-6)
    np.testing.assert_array_equal(again.half, particles.half)
    np.testing.assert_array_equal(again.image_slot, particles.image_slot)
    assert again.optics == particles.optics
    assert starfile.read(tmp_path / "out.star")["particles"]["csUid"].astype("uint64").is_unique
