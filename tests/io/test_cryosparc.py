"""cryoSPARC files: read, joined with passthrough files in another order, written byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.cryosparc import join_passthrough, read_cs, star_columns, write_cs

TYPE = [
    ("uid", "<u8"),
    ("blob/path", "S12"),
    ("blob/shape", "<u4", (2,)),
    ("alignments3D/pose", "<f4", (3,)),
]
OTHER_TYPE = [
    ("uid", "<u8"),
    ("ctf/df1_A", "<f4"),
    ("ctf/tilt_A", "<f4", (2,)),
    ("blob/shape", "<u4", (2,)),
]


def _rows(n: int, kind: list[tuple], seed: int = 0) -> NDArray[np.void]:
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, dtype=kind)
    for name in rows.dtype.names:
        rows[name] = rng.integers(1, 200, rows[name].shape)
    rows["uid"] = np.arange(n, dtype=np.uint64) * 7 + 2**63
    return rows


def _save(path: Path, rows: NDArray) -> Path:
    with path.open("wb") as file:
        np.save(file, rows)
    return path


def test_written_file_is_the_one_that_was_read(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.cs", _rows(9, TYPE))
    write_cs(tmp_path / "b.cs", read_cs(path))
    assert (tmp_path / "b.cs").read_bytes() == path.read_bytes()


def test_passthrough_in_another_order_with_others_in_it(tmp_path: Path) -> None:
    rows, other = _rows(20, TYPE), _rows(30, OTHER_TYPE, seed=1)
    shuffled = _save(tmp_path / "p.cs", other[np.random.default_rng(2).permutation(30)])
    joined = join_passthrough(rows, tmp_path / "a.cs", shuffled)
    assert joined.dtype.names == (
        "uid",
        "blob/path",
        "blob/shape",
        "alignments3D/pose",
        "ctf/df1_A",
        "ctf/tilt_A",
    )
    np.testing.assert_array_equal(joined["blob/shape"], rows["blob/shape"])
    np.testing.assert_array_equal(joined["ctf/df1_A"], other["ctf/df1_A"][:20])
    np.testing.assert_array_equal(joined["ctf/tilt_A"], other["ctf/tilt_A"][:20])


def test_passthrough_of_another_job_is_refused(tmp_path: Path) -> None:
    other = _save(tmp_path / "p.cs", _rows(12, OTHER_TYPE))
    with pytest.raises(InputError, match="lacks 8 of the 20 particles"):
        join_passthrough(_rows(20, TYPE), tmp_path / "a.cs", other)
    empty = _save(tmp_path / "e.cs", _rows(0, OTHER_TYPE))
    with pytest.raises(InputError, match="lacks 20 of the 20 particles"):
        join_passthrough(_rows(20, TYPE), tmp_path / "a.cs", empty)
    without = _save(tmp_path / "n.cs", _rows(20, OTHER_TYPE)[["ctf/df1_A"]])
    with pytest.raises(InputError, match="no column uid"):
        join_passthrough(_rows(20, TYPE), tmp_path / "a.cs", without)


def test_every_column_gets_a_name_for_star() -> None:
    rows = _rows(4, [*TYPE, ("alignments3D/cross_cor", "<f4")])
    columns = star_columns(rows)
    assert list(columns) == [
        *("csUid", "csBlobPath", "csBlobShape1", "csBlobShape2"),
        *(
            "csAlignments3DPose1",
            "csAlignments3DPose2",
            "csAlignments3DPose3",
            "csAlignments3DCrossCor",
        ),
    ]
    np.testing.assert_array_equal(columns["csUid"], rows["uid"])
    np.testing.assert_array_equal(columns["csAlignments3DPose3"], rows["alignments3D/pose"][:, 2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x01\x02\x03" * 50, "no NumPy header"),
        (b"\x94CSDAT" + bytes(20), "compressed format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "cannot be read"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.cs"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_cs(path)


def test_cut_short_nameless_and_missing(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.cs", _rows(50, TYPE))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        read_cs(path)
    with pytest.raises(InputError, match="no table of named columns"):
        read_cs(_save(tmp_path / "plain.cs", np.zeros(3)))
    with pytest.raises(InputError, match="no such file"):
        read_cs(tmp_path / "none.cs")
