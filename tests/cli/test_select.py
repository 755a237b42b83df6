"""`kinesphere select`: the right particles, with every column as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinesphere.cli.main import main
from kinesphere.io.star import read_star

COLUMNS = ("rlnImageName", "rlnPixelSize", "rlnDefocusX", "rlnGroupName", "rlnRandomSubset")
ROWS = [f"{n}@a.mrcs 1.5 {n * 1000}.50 group{n % 3} {1 + n % 2}" for n in range(1, 13)]


@pytest.fixture
def star(tmp_path: Path) -> Path:
    path = tmp_path / "particles.star"
    path.write_text(
        "\n".join(["data_particles", "loop_", *(f"_{name}" for name in COLUMNS), *ROWS]) + "\n"
    )
    return path


def _selected(path: Path) -> list[int]:
    return [int(name.partition("@")[0]) for name in read_star(path).tables[0].text("rlnImageName")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--where", "rlnDefocusX>9000", "rlnDefocusX<=11000.5"], [9, 10, 11]),
        (["--where", "rlnGroupName=group0"], [3, 6, 9, 12]),
        (["--where", "rlnGroupName != group0", "--half", "1"], [2, 4, 8, 10]),
        (["--half", "2", "--invert"], [2, 4, 6, 8, 10, 12]),
    ],
)
def test_conditions(star: Path, tmp_path: Path, options: list[str], expected: list[int]) -> None:
    assert main(["select", str(star), "--out", str(tmp_path / "sel.star"), *options]) == 0
    assert _selected(tmp_path / "sel.star") == expected
    table = read_star(tmp_path / "sel.star").tables[0]
    assert table.columns == read_star(star).tables[0].columns
    assert table.text("rlnDefocusX") == [f"{n * 1000}.50" for n in expected]


@pytest.mark.parametrize("name", ["rows.txt", "rows.npy", "rows.npz"])
def test_positions_from_a_file(star: Path, tmp_path: Path, name: str) -> None:
    rows = np.array([4, 0, 11])
    writers = {
        ".txt": np.savetxt,
        ".npy": np.save,
        ".npz": lambda path, index: np.savez(path, index=index),
    }
    writers[Path(name).suffix](tmp_path / name, rows)
    assert (
        main(
            [
                "select",
                str(star),
                "--out",
                str(tmp_path / "sel.star"),
                "--indices",
                str(tmp_path / name),
            ]
        )
        == 0
    )
    assert _selected(tmp_path / "sel.star") == [1, 5, 12]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--where", "rlnDefocusX>1e9"], "no particle that fits"),
        (["--where", "rlnDefocus>1"], "no column rlnDefocus"),
        (["--where", "rlnGroupName>1"], "holds text"),
        (["--where", "rlnDefocusX"], "not a condition"),
        (["--where", "rlnDefocusX>high"], "not a number"),
        (["--indices", "rows.txt"], "holds no positions"),
    ],
)
def test_mistakes_are_named(
    star: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["select", str(star), "--out", str(tmp_path / "sel.star"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "sel.star").exists()


def test_positions_outside_the_set_and_endings_unknown(
    star: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.txt").write_text("3\n12\n")
    assert (
        main(
            [
                "select",
                str(star),
                "--out",
                str(tmp_path / "a.star"),
                "--indices",
                str(tmp_path / "rows.txt"),
            ]
        )
        == 2
    )
    assert "entry 2 is 12, not a position from 0 to 11" in capsys.readouterr().err
    assert main(["select", str(star), "--out", str(tmp_path / "a.txt")]) == 2
    assert "neither a .star nor a .cs file" in capsys.readouterr().err


def test_a_folder_means_its_particles(star: Path, tmp_path: Path) -> None:
    assert (
        main(["select", str(star.parent), "--out", str(tmp_path / "sel.star"), "--half", "1"]) == 0
    )
    assert len(_selected(tmp_path / "sel.star")) == 6
