"""STAR files as programs and people write them: read like starfile does, copied word for word,
refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import starfile

from kinesphere.errors import InputError
from kinesphere.io.star import TableEdit, copy_star, format_column, read_star, write_star

TWO_TABLES = """# made by hand
# version 30001

data_general
_rlnKey  'two words'

data_particles
# a comment between block and loop

loop_
_rlnImageName #1
_rlnDefocusU
_rlnGroupName #3 [with a remark]
_rlnComment #4
  1@a.mrcs\t 10000.50  data_2024/x.mrc  "a b"
2@a.mrcs 9999 loop_3 ''

"""


@pytest.fixture
def star(tmp_path: Path) -> Callable[[str], Path]:
    """Write text to a file."""

    def write(text: str) -> Path:
        path = tmp_path / "in.star"
        path.write_text(text)
        return path

    return write


def test_quotes_tabs_remarks_and_words_that_look_like_keywords(star: Callable[[str], Path]) -> None:
    general, particles = read_star(star(TWO_TABLES)).tables
    assert general.text("rlnKey") == ["two words"]
    assert particles.columns == ("rlnImageName", "rlnDefocusU", "rlnGroupName", "rlnComment")
    assert particles.text("rlnGroupName") == ["data_2024/x.mrc", "loop_3"]
    assert particles.text("rlnComment") == ["a b", ""]
    np.testing.assert_array_equal(particles.numbers("rlnDefocusU"), [10000.5, 9999.0])


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "in.star"
    path.write_bytes(b"\xef\xbb\xbf" + TWO_TABLES.replace("\n", ending).encode())
    assert read_star(path).tables[1].text("rlnImageName") == ["1@a.mrcs", "2@a.mrcs"]


def test_copy_keeps_the_text_of_every_value(star: Callable[[str], Path], tmp_path: Path) -> None:
    source, target = star(TWO_TABLES), tmp_path / "sub" / "out.star"
    copy_star(source, target, {})
    lines = [line.split() for line in target.read_text().splitlines() if line.strip()]
    assert ["1@a.mrcs", "10000.50", "data_2024/x.mrc", '"a', 'b"'] in lines
    assert ["2@a.mrcs", "9999", "loop_3", "''"] in lines
    assert ["_rlnKey", "'two", "words'"] in lines
    assert ["#", "version", "30001"] in lines
    copy_star(target, tmp_path / "again.star", {})
    assert (tmp_path / "again.star").read_text() == target.read_text()


def test_copy_chooses_replaces_and_adds(star: Callable[[str], Path]) -> None:
    source = star(TWO_TABLES)
    edit = TableEdit(
        np.array([1, 0, 1]), {"rlnDefocusU": ["1", "2", "3"], "rlnNew": ["x", "y", "z"]}
    )
    copy_star(source, source, {"particles": edit})
    general, particles = read_star(source).tables
    assert general.text("rlnKey") == ["two words"]
    assert particles.text("rlnImageName") == ["2@a.mrcs", "1@a.mrcs", "2@a.mrcs"]
    assert particles.text("rlnDefocusU") == ["1", "2", "3"]
    assert particles.columns[-1] == "rlnNew"
    assert particles.text("rlnNew") == ["x", "y", "z"]


def test_written_file_is_what_starfile_reads(tmp_path: Path) -> None:
    path = tmp_path / "out.star"
    numbers = np.random.default_rng(1).normal(size=5) * 1e4
    names = [f"00000{n}@a b.mrcs" for n in range(5)]
    write_star(
        path,
        {"optics": {"rlnOpticsGroup": [1, 2]}, "particles": {"rlnX": numbers, "rlnName": names}},
    )
    tables = starfile.read(path, always_dict=True)
    np.testing.assert_allclose(tables["particles"]["rlnX"], numbers, rtol=1e-8)
    assert list(tables["particles"]["rlnName"]) == names
    assert read_star(path).tables[1].text("rlnName") == names


def test_floats_are_written_so_that_they_come_back() -> None:
    single = np.random.default_rng(0).normal(size=100).astype(np.float32)
    np.testing.assert_array_equal(np.array(format_column(single), dtype=np.float32), single)
    assert format_column(np.float32([2.95])) == ["2.95"]
    assert format_column(np.array([2**64 - 1], dtype=np.uint64)) == ["18446744073709551615"]
    with pytest.raises(ValueError, match="not finite"):
        format_column([1.0, np.nan])


def test_folder_of_the_images_is_noted_and_found_again(
    tmp_path: Path, star: Callable[[str], Path]
) -> None:
    copy_star(star(TWO_TABLES), tmp_path / "out.star", {}, image_folder=Path("/data/my project"))
    assert read_star(tmp_path / "out.star").image_folder == Path("/data/my project")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "git-lfs pointer.*git lfs pull",
        ),
        (" \n", "is empty"),
        ("hello\n", "not a STAR file"),
        (
            "data_\nloop_\n_rlnA\n_rlnB\n1 2\n3\n5 6\n",
            r"row 2 of data_ \(line 6\) has 1 values for 2 columns",
        ),
        ("data_\nloop_\n_rlnA\n_rlnB\n1 'a b'\n3 a b\n", "row 2 .* has 3 values for 2 columns"),
    ],
)
def test_unusable_files_are_refused_in_one_line(
    star: Callable[[str], Path], text: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        read_star(star(text))
    assert "in.star" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_folder_and_binary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_star(tmp_path / "none.star")
    with pytest.raises(InputError, match="is a folder"):
        read_star(tmp_path)
    (tmp_path / "binary.star").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        read_star(tmp_path / "binary.star")


@pytest.mark.parametrize("value", ["nan", "inf", "none", "<NA>", "1.0.0"])
def test_values_that_are_no_numbers_are_named_with_their_row(
    star: Callable[[str], Path], value: str
) -> None:
    table = read_star(star(f"data_\nloop_\n_rlnA #1\n_rlnB #2\n1 2\n3 {value}\n5 6\n")).tables[0]
    np.testing.assert_array_equal(table.numbers("rlnA"), [1, 3, 5])
    with pytest.raises(InputError, match="rlnB of row 2"):
        table.numbers("rlnB")


def test_file_changed_since_it_was_read_is_not_copied(
    star: Callable[[str], Path], tmp_path: Path
) -> None:
    path = star(TWO_TABLES)
    stamp = read_star(path).stamp
    path.write_text(TWO_TABLES + "\n")
    with pytest.raises(InputError, match="has changed"):
        copy_star(path, tmp_path / "out.star", {}, stamp=stamp)
    assert not (tmp_path / "out.star").exists()
