"""cryoSPARC particles: what its columns mean, there and back through a star file, and subsets in
its own format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.recfunctions import drop_fields
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.cryosparc import read_cs
from kinesphere.io.mrc import write_stack
from kinesphere.io.star import read_star
from kinesphere.particles import ParticleSet

TYPE = [
    *[
        ("uid", "<u8"),
        ("blob/path", "S24"),
        ("blob/idx", "<u4"),
        ("blob/shape", "<u4", (2,)),
        ("blob/psize_A", "<f4"),
    ],
    *[
        ("blob/sign", "<f4"),
        ("ctf/exp_group_id", "<u4"),
        ("ctf/accel_kv", "<f4"),
        ("ctf/cs_mm", "<f4"),
    ],
    *[
        ("ctf/amp_contrast", "<f4"),
        ("ctf/df1_A", "<f4"),
        ("ctf/df2_A", "<f4"),
        ("ctf/df_angle_rad", "<f4"),
    ],
    *[
        ("ctf/phase_shift_rad", "<f4"),
        ("ctf/scale", "<f4"),
        ("ctf/bfactor", "<f4"),
        ("ctf/tilt_A", "<f4", (2,)),
    ],
    *[("ctf/shift_A", "<f4", (2,)), ("ctf/anisomag", "<f4", (4,)), ("alignments3D/split", "<u4")],
    *[
        ("alignments3D/shift", "<f4", (2,)),
        ("alignments3D/pose", "<f4", (3,)),
        ("alignments3D/psize_A", "<f4"),
    ],
    ("alignments3D/cross_cor", "<f4"),
]
N = 12


def _rows() -> NDArray[Any]:
    rng = np.random.default_rng(3)
    rows = np.zeros(N, dtype=TYPE)
    rows["uid"] = rng.integers(2**63, 2**64, N, dtype=np.uint64)
    rows["blob/path"] = [b">J1/imported/a.mrc", b"J1/imported/b.mrc"] * (N // 2)
    rows["blob/idx"] = np.arange(N) // 2
    rows["blob/shape"], rows["blob/psize_A"], rows["blob/sign"] = 8, 1.5, -1
    rows["ctf/exp_group_id"] = [3, 3, 3, 7] * (N // 4)
    rows["ctf/accel_kv"], rows["ctf/cs_mm"], rows["ctf/amp_contrast"] = 300, 2.7, 0.1
    rows["ctf/df1_A"], rows["ctf/df2_A"] = rng.uniform(5e3, 3e4, (2, N))
    rows["ctf/df_angle_rad"], rows["ctf/phase_shift_rad"], rows["ctf/scale"] = (
        rng.uniform(-1.5, 1.5, N),
        np.pi / 2,
        1,
    )
    rows["alignments3D/split"] = rng.permutation([0, 1] * (N // 2))
    rows["alignments3D/shift"] = rng.normal(0, 3, (N, 2))
    rows["alignments3D/pose"] = Rotation.random(N, random_state=4).as_rotvec()
    rows["alignments3D/psize_A"], rows["alignments3D/cross_cor"] = 3.0, rng.normal(size=N)
    return rows


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as J9/particles.cs in a project with the stacks it names."""

    def write(rows: NDArray[Any], name: str = "particles.cs") -> Path:
        path = tmp_path / "J9" / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            np.save(file, rows)
        return path

    (tmp_path / "J1" / "imported").mkdir(parents=True)
    for first, stack in ((0, "a"), (100, "b")):
        images = np.broadcast_to(
            np.arange(first, first + 6, dtype=np.float32)[:, None, None], (6, 8, 8)
        )
        write_stack(tmp_path / "J1" / "imported" / f"{stack}.mrc", images, 1.5)
    return write


def test_columns_become_poses_ctf_and_halves(save: Callable[..., Path]) -> None:
    rows = _rows()
    particles = ParticleSet.read(save(rows))
    vector = rows["alignments3D/pose"].astype(np.float64)
    angle = np.linalg.norm(vector, axis=1)
    axis = vector / angle[:, None]
    # Rodrigues' formula on the x axis: the first column of R.
    x = np.array([1.0, 0.0, 0.0])
    turned = x * np.cos(angle)[:, None] + np.cross(axis, x) * np.sin(angle)[:, None]
    turned += axis * (axis[:, :1] * (1 - np.cos(angle))[:, None])
    np.testing.assert_allclose(particles.rotation[:, :, 0], turned, atol=1e-6)
    np.testing.assert_allclose(
        particles.shift_angstrom, -3.0 * rows["alignments3D/shift"], rtol=1e-6
    )
    np.testing.assert_allclose(
        particles.defocus_angle_degrees, np.rad2deg(rows["ctf/df_angle_rad"]), rtol=1e-6
    )
    np.testing.assert_allclose(particles.phase_shift_degrees, 90, rtol=1e-6)
    np.testing.assert_array_equal(particles.half, rows["alignments3D/split"] + 1)
    assert particles.has_poses
    assert particles.has_ctf
    assert particles.recorded_sign == -1
    assert particles.warnings == ()


def test_images_are_found_from_the_project_folder(save: Callable[..., Path]) -> None:
    particles = ParticleSet.read(save(_rows()))
    assert particles.images([0, 1, 5, 10])[:, 2, 2].tolist() == [0, 100, 102, 5]


def test_exposure_groups_are_optics_groups(save: Callable[..., Path]) -> None:
    rows = _rows()
    rows["ctf/tilt_A"][rows["ctf/exp_group_id"] == 7] = [2.7e4, 0]
    particles = ParticleSet.read(save(rows))
    assert [group.name for group in particles.optics] == ["expGroup3", "expGroup7"]
    np.testing.assert_array_equal(
        particles.optics_group, (rows["ctf/exp_group_id"] == 7).astype(int)
    )
    assert (particles.optics[0].pixel_size_angstrom, particles.optics[0].box_px) == (1.5, 8)
    # tilt_A is Cs sin(tilt): 2.7e4 Å of 2.7e7 Å is a milliradian.
    np.testing.assert_allclose(particles.optics[1].beam_tilt_mrad, [1.0, 0.0], rtol=1e-6)
    with pytest.raises(InputError, match="expGroup7 has rlnBeamTilt.*--ignore-aberrations"):
        particles.require_simple_optics()
    particles[particles.optics_group == 0].require_simple_optics()
    particles.require_simple_optics(resolution_angstrom=20.0)


def test_there_and_back_through_a_star_file(save: Callable[..., Path], tmp_path: Path) -> None:
    rows = _rows()
    particles = ParticleSet.read(save(rows))[2:]
    particles.write_star(tmp_path / "J9" / "out.star", {"rlnKinesphereLatent1": np.arange(N - 2.0)})
    again = ParticleSet.read(tmp_path / "J9" / "out.star")
    np.testing.assert_allclose(again.rotation, particles.rotation, atol=1e-7)
    for name in (
        "shift_angstrom",
        "defocus_u_angstrom",
        "defocus_v_angstrom",
        "defocus_angle_degrees",
    ):
        np.testing.assert_allclose(getattr(again, name), getattr(particles, name), rtol=1e-7)
    np.testing.assert_array_equal(again.half, particles.half)
    assert again.optics == particles.optics
    np.testing.assert_array_equal(
        again.images(np.arange(N - 2)), particles.images(np.arange(N - 2))
    )
    table = read_star(tmp_path / "J9" / "out.star").tables[1]
    assert table.text("csUid") == [str(uid) for uid in rows["uid"][2:]]
    np.testing.assert_array_equal(
        np.float32(table.text("csAlignments3DCrossCor")), rows["alignments3D/cross_cor"][2:]
    )


def test_subset_keeps_the_rows_as_they_were(save: Callable[..., Path], tmp_path: Path) -> None:
    rows = _rows()
    save(rows[["uid", "ctf/df1_A"]], "pass.cs")
    path = save(
        drop_fields(
            rows, [name for name in rows.dtype.names if name.startswith("ctf/")], usemask=False
        )
    )
    save(
        rows[::-1][[name for name in rows.dtype.names if name == "uid" or name.startswith("ctf/")]],
        "pass.cs",
    )
    particles = ParticleSet.read(path, passthrough=path.with_name("pass.cs"))
    np.testing.assert_allclose(particles.defocus_u_angstrom, rows["ctf/df1_A"])
    particles[[7, 2]].write_cs(tmp_path / "out.cs")
    np.testing.assert_array_equal(read_cs(tmp_path / "out.cs"), read_cs(path)[[7, 2]])
    assert read_cs(tmp_path / "out.cs").dtype == read_cs(path).dtype
    np.testing.assert_array_equal(particles[3:].column("ctf/df1_A"), rows["ctf/df1_A"][3:])


@pytest.mark.parametrize(
    ("dropped", "words"),
    [
        (
            ("blob/path", "blob/idx"),
            "names no images: blob/path and blob/idx missing.*--passthrough",
        ),
        (("ctf/accel_kv",), "incomplete CTF: ctf/accel_kv missing"),
    ],
)
def test_missing_columns_are_named(
    save: Callable[..., Path], dropped: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        ParticleSet.read(save(drop_fields(_rows(), dropped, usemask=False)))


def test_without_alignments_there_are_no_poses(save: Callable[..., Path]) -> None:
    names = [name for name in _rows().dtype.names if name.startswith("alignments3D")]
    particles = ParticleSet.read(save(drop_fields(_rows(), names, usemask=False)))
    assert not particles.has_poses
    assert particles.half.tolist() == [0] * N
    with pytest.raises(InputError, match="no poses: alignments3D/pose missing"):
        particles.require_poses()


def test_values_that_are_no_numbers_are_named(save: Callable[..., Path]) -> None:
    rows = _rows()
    rows["alignments3D/pose"][4, 1] = np.nan
    with pytest.raises(InputError, match="alignments3D/pose of row 5"):
        ParticleSet.read(save(rows))


def test_phase_ramps_and_halves_of_one_kind_are_told(save: Callable[..., Path]) -> None:
    rows = _rows()
    rows["ctf/shift_A"][3] = [0.9, 1.2]
    rows["alignments3D/split"] = 0
    particles = ParticleSet.read(save(rows))
    assert "up to 1.00 px" in particles.warnings[0]
    assert "two halves" in particles.warnings[1]
    assert not particles.half.any()


def test_passthrough_belongs_to_cs_files_only(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text("data_\n")
    with pytest.raises(InputError, match="no passthrough"):
        ParticleSet.read(tmp_path / "a.star", passthrough=tmp_path / "b.cs")
