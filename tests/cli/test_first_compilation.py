"""A job says what it waits for, and only after what the user gave has been read."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinesphere.cli.main import main
from kinesphere.io.mrc import ImageStack, write_stack
from kinesphere.kernels import compiled, warming

COMPILING = "compiling kernels, once"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few images of an opening enzyme."""
    folder = tmp_path_factory.mktemp("data")
    options = ("--n", "60", "--box", "24", "--pixel-size", "4", "--snr", "1", "--n-states", "3")
    assert main(["simulate", "--out", str(folder), *options]) == 0
    return folder


@pytest.fixture
def _nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program believe so; what the work needs is kept from before."""
    monkeypatch.setattr(compiled, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(warming, "every_operation", list)


def _segments(data: Path, out: Path) -> list[str]:
    inputs = [str(data / "particles.star"), "--model", str(data / "model.cif")]
    sizes = ("--epochs", "1", "--coarse-epochs", "0", "--n-nodes", "4", "--n-segments", "3")
    return ["segments", *inputs, "--out", str(out), *sizes, "--threads", "1"]


@pytest.mark.usefixtures("_nothing_is_compiled")
def test_compiling_is_announced_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_segments(data, tmp_path / "run")) == 0
    assert capsys.readouterr().err.count(COMPILING) == 1
    assert main(_segments(data, tmp_path / "again")) == 0
    assert COMPILING not in capsys.readouterr().err


@pytest.mark.usefixtures("_nothing_is_compiled")
def test_what_is_refused_is_refused_before_anything_is_compiled(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ImageStack(data / "particles.mrcs")[:]
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("particles.star", "model.cif"):
        (broken / name).write_bytes((data / name).read_bytes())
    images[7, 3, 3] = float("nan")
    write_stack(broken / "particles.mrcs", images, 4.0)
    for particles in (broken, tmp_path / "missing"):
        capsys.readouterr()
        assert main(_segments(particles, tmp_path / "run")) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "later", [("reconstruct",), ("volumes", "--steps", "1", "--method", "kernel")]
)
def test_later_work_announces_it_too(
    later: tuple[str, ...],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(_segments(data, tmp_path / "run")) == 0
    monkeypatch.setattr(compiled, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(warming, "every_operation", list)
    capsys.readouterr()
    command, *options = later
    assert main([command, str(tmp_path / "run"), *options, "--threads", "1"]) == 0
    assert capsys.readouterr().err.count(COMPILING) == 1
