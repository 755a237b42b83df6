"""`preprocess --cache` and `--coefficients`: prepared once or here, in memory or on disk, the run
is the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.small_set import simulate_set
from kinesphere.cli.main import main
from kinesphere.io.checkpoint import has_checkpoint
from kinesphere.io.mrc import ImageStack, write_stack
from kinesphere.observations.coefficient_cache import CACHE_FILE

OPTIONS = (
    "--epochs",
    "2",
    "--latent-dim",
    "1",
    "--n-nodes",
    "8",
    "--batch-size",
    "16",
    "--threads",
    "1",
)
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small particle set, with a cache of it."""
    folder = tmp_path_factory.mktemp("data")
    simulate_set(folder, 320, seed=6)
    assert (
        main(
            [
                "preprocess",
                str(folder / "particles.star"),
                "--out",
                str(folder / "cache"),
                "--cache",
            ]
        )
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def run_in_memory(data: Path) -> Path:
    """The run that others are compared with: float16 in memory, without a cache."""
    assert main(_run("segments", data, data / "memory", "--coefficients", "memory")) == 0
    return data / "memory"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that should be refused; returns what it says."""

    def run(*arguments: str) -> str:
        assert main(list(arguments)) == 2
        message = capsys.readouterr().err.strip()
        return " ".join(message.split())

    return run


def _run(command: str, data: Path, out: Path, *options: str) -> list[str]:
    model = (
        ["--model", str(data / "model.cif")] if command == "segments" else ["--n-gaussians", "60"]
    )
    inputs = [str(data / "particles.star"), *model, "--map", str(data / "consensus.mrc")]
    return [command, *inputs, "--out", str(out), *OPTIONS, *options]


def _latents(run: Path) -> np.ndarray:
    with np.load(run / "latents.npz") as stored:
        return np.array(stored["mean"])


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (("--coefficients", "disk"), "float16 on disk"),
        (("--memory-gigabytes", "1e-4"), "float16 on disk"),
        (("--memory-gigabytes", "7e-4"), "float16 in memory"),
        (("--cache", "CACHE"), "float16 in memory"),
        (("--cache", "CACHE", "--coefficients", "disk"), "float16 on disk"),
    ],
)
def test_a_run_is_the_same_wherever_float16_is_kept(
    data: Path, run_in_memory: Path, tmp_path: Path, options: tuple[str, ...], how: str
) -> None:
    given = [str(data / "cache") if option == "CACHE" else option for option in options]
    assert main(_run("segments", data, tmp_path / "run", *given)) == 0
    np.testing.assert_array_equal(_latents(tmp_path / "run"), _latents(run_in_memory))
    assert how in (tmp_path / "run" / "log.txt").read_text()


def test_float32_is_the_default_of_a_set_that_fits(
    data: Path, run_in_memory: Path, tmp_path: Path
) -> None:
    assert main(_run("segments", data, tmp_path / "run")) == 0
    assert "float32 in memory" in (tmp_path / "run" / "log.txt").read_text()
    exact, half = _latents(tmp_path / "run"), _latents(run_in_memory)
    assert (exact != half).any()
    assert np.sqrt(np.mean((exact - half) ** 2)) < 0.02 * exact.std()


def test_a_field_trains_from_a_cache(data: Path, tmp_path: Path) -> None:
    found = []
    for number, options in enumerate(
        (["--coefficients", "memory"], ["--cache", str(data / "cache" / CACHE_FILE)])
    ):
        assert main(_run("field", data, tmp_path / str(number), *options)) == 0
        found.append(_latents(tmp_path / str(number)))
    np.testing.assert_array_equal(*found)


def test_a_run_goes_on_with_coefficients_kept_elsewhere(data: Path, tmp_path: Path) -> None:
    assert main(_run("segments", data, tmp_path / "run", "--coefficients", "memory")) == 0
    assert main(_run("segments", data, tmp_path / "run", "--cache", str(data / "cache"))) == 0


def test_a_run_from_disk_survives_a_kill_and_leaves_no_file(
    data: Path, run_in_memory: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = _run("segments", data, run, "--coefficients", "disk")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "kinesphere", *command], env=environment
    ) as process:
        deadline = time.monotonic() + 120
        while not has_checkpoint(run / "checkpoints"):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
    assert not (run / "latents.npz").exists()
    assert not list(run.glob(".coefficients*"))
    assert main(command) == 0
    np.testing.assert_array_equal(_latents(run), _latents(run_in_memory))


def test_a_moved_project_keeps_its_cache(data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(data, tmp_path / "moved")
    assert main(_run("segments", moved, tmp_path / "run", "--cache", str(moved / "cache"))) == 0


def test_a_cache_of_other_images_is_refused(data: Path, tmp_path: Path, refused: Refused) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    stack = ImageStack(other / "particles.mrcs")
    write_stack(other / "particles.mrcs", -stack[:], 3.0)
    message = refused(*_run("segments", other, tmp_path / "run", "--cache", str(data / "cache")))
    assert "was made from other images. Make it again with kinesphere preprocess --cache" in message
    assert not (tmp_path / "run").exists()


def test_a_cache_of_other_particles_is_refused(
    data: Path, tmp_path: Path, refused: Refused
) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    lines = (other / "particles.star").read_text().rstrip().splitlines()
    (other / "particles.star").write_text("\n".join(lines[:-1]) + "\n")
    assert "other particles" in refused(
        *_run("segments", other, tmp_path / "run", "--cache", str(data / "cache"))
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--invert-contrast",), "was made with invert_contrast False, not True"),
        (("--no-normalise",), "was made with normalise True, not False"),
        (("--coefficients", "exact"), "exact cannot be had from --cache"),
        (("--coefficients", "gpu", "--device", "cpu"), "gpu asks for a GPU"),
    ],
)
def test_options_that_a_cache_does_not_fit_are_refused(
    data: Path, tmp_path: Path, refused: Refused, options: tuple[str, ...], words: str
) -> None:
    assert words in refused(
        *_run("segments", data, tmp_path / "run", "--cache", str(data / "cache"), *options)
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--box", "24"), "--box: does not go with --cache"),
        (("--remove-ramp",), "--remove-ramp: does not go with --cache"),
        (
            ("--background-radius-fraction", "0.5"),
            "--background-radius-fraction: does not go with --cache",
        ),
        (("--resolution-angstrom", "0"), "--resolution-angstrom: 0"),
    ],
)
def test_what_a_cache_cannot_hold_is_refused(
    data: Path, tmp_path: Path, refused: Refused, options: tuple[str, ...], words: str
) -> None:
    particles = str(data / "particles.star")
    assert words in refused(
        "preprocess", particles, "--out", str(tmp_path / "cache"), "--cache", *options
    )
    assert not (tmp_path / "cache").exists()


def test_a_cache_is_replaced_only_if_asked(data: Path, tmp_path: Path, refused: Refused) -> None:
    command = ["preprocess", str(data / "particles.star"), "--out", str(tmp_path), "--cache"]
    assert main(command) == 0
    first = (tmp_path / CACHE_FILE).read_bytes()
    assert "is there already" in refused(*command)
    assert main([*command, "--overwrite", "--resolution-angstrom", "12"]) == 0
    assert len((tmp_path / CACHE_FILE).read_bytes()) < len(first)
    message = refused(*_run("segments", data, tmp_path / "run", "--cache", str(tmp_path)))
    assert "was made with shells 8, not 15" in message
    coarse = ("--resolution-angstrom", "14", "--cache", str(tmp_path))
    assert main(_run("segments", data, tmp_path / "run", *coarse)) == 0
