"""What is compared with what: for each case the command of the other program, and those of
kinesphere.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of process.py
from process import measure

HERE = Path(__file__).parent
_EVERYTHING = ("--resolution-angstrom", "3.0")  # two pixels: all of the image, as the others use
_TRAINED_PART = 0.9  # of the images of a field run; the others are its validation subset


@dataclass(frozen=True)
class Runner:
    """A program that can be run for a length of our choosing.

    Attributes
    ----------
    name
        What it is called in the tables.
    command
        From a length (epochs, passes) and a folder for results to a command line.
    short, long
        The two lengths.
    images
        Images worked on for each unit of length.
    """

    name: str
    command: Callable[[int, Path], list[str | Path]]
    short: int
    long: int
    images: float


@dataclass(frozen=True)
class Case:
    """One program on one set of particles.

    Attributes
    ----------
    task, data, box, points
        What is done, on which particles, with how many residues or Gaussians.
    peer, package
        The other program, and the package that its version is asked of.
    batch, segments
        Images at once; segments of the chain.
    short, long
        Epochs of the other program (or passes; or steps of cryoSTAR).
    our_short, our_long
        Epochs (or passes) of kinesphere.
    peer_images
        Images of a pass where not all are used.
    """

    task: Literal["segments", "field", "backprojection"]
    data: Literal["small", "large"]
    box: int
    points: int
    peer: Literal["cryosphere", "dynamight", "cryodrgn", "cryostar"]
    package: str
    batch: int
    short: int
    long: int
    our_short: int
    our_long: int
    segments: int | None = None
    peer_images: int | None = None

    @property
    def name(self) -> str:
        """Name on the command line and in the tables."""
        return f"{self.peer}-{self.task}-{self.box}"

    def runner(self, python: Path, data: Path, work: Path) -> Runner:
        """Make the other program's commands."""
        make = {
            "cryosphere": _cryosphere,
            "dynamight": _dynamight,
            "cryodrgn": _cryodrgn,
            "cryostar": _cryostar,
        }
        images = self.peer_images or _n_images(data)
        if self.peer == "cryostar":
            images = self.batch  # its length is in steps
        return Runner(
            self.peer, make[self.peer](self, python, data, work), self.short, self.long, images
        )


CASES = (
    Case("segments", "small", 64, 214, "cryosphere", "cryosphere", 64, 2, 3, 2, 10, segments=10),
    Case(
        "segments",
        "large",
        128,
        1070,
        "cryosphere",
        "cryosphere",
        32,
        2,
        4,
        2,
        8,
        segments=25,
        peer_images=160,
    ),
    Case("field", "small", 64, 500, "dynamight", "dynamight", 64, 1, 3, 2, 8),
    Case("field", "large", 128, 3000, "dynamight", "dynamight", 64, 1, 2, 2, 8),
    Case(
        "backprojection", "small", 64, 500, "dynamight", "dynamight", 8, 1, 3, 1, 9, peer_images=40
    ),
    Case(
        "backprojection",
        "large",
        128,
        3000,
        "dynamight",
        "dynamight",
        4,
        1,
        2,
        1,
        4,
        peer_images=12,
    ),
    Case("field", "small", 64, 500, "cryodrgn", "cryodrgn", 8, 1, 2, 2, 8, peer_images=16),
    Case("segments", "small", 64, 214, "cryostar", "cryostar", 64, 10, 40, 2, 10, segments=10),
)


def _n_images(data: Path) -> int:
    return int(json.loads((data / "about.json").read_text())["n_images"])


def _cryosphere(
    case: Case, python: Path, data: Path, work: Path
) -> Callable[[int, Path], list[str | Path]]:
    fixed = [python, HERE / "run_cryosphere.py", data, "--work", work]
    sizes = ["--batch", str(case.batch), "--segments", str(case.segments)]
    if case.peer_images:
        sizes += ["--images", str(case.peer_images)]
    return lambda length, _: [*fixed, *sizes, "--epochs", str(length)]


def _dynamight(
    case: Case, python: Path, data: Path, _work: Path
) -> Callable[[int, Path], list[str | Path]]:
    task = "train" if case.task == "field" else "backproject"
    fixed = [python, HERE / "run_dynamight.py", data, "--task", task]
    sizes = ["--batch", str(case.batch), "--gaussians", str(case.points)]
    if case.peer_images:
        sizes += ["--images", str(case.peer_images)]
    return lambda length, _: [*fixed, *sizes, "--passes", str(length)]


def _cryodrgn(
    case: Case, python: Path, data: Path, work: Path
) -> Callable[[int, Path], list[str | Path]]:
    inputs = [
        "--poses",
        work / "poses.pkl",
        "--ctf",
        work / "ctf.pkl",
        "--ind",
        work / "some.pkl",
        "--datadir",
        data,
    ]
    fixed = [
        python.with_name("cryodrgn"),
        "train_vae",
        data / "particles.star",
        *inputs,
        "--zdim",
        "8",
    ]
    sizes = ["--batch-size", str(case.batch), "--no-analysis", "--no-amp", "--num-workers", "0"]
    return lambda length, out: [
        *fixed,
        *sizes,
        "--num-epochs",
        str(length),
        "--outdir",
        out / "cryodrgn",
    ]


def _cryostar(
    case: Case, python: Path, data: Path, _work: Path
) -> Callable[[int, Path], list[str | Path]]:
    fixed = [python, HERE / "run_cryostar.py", data, "--batch", str(case.batch)]
    return lambda length, out: [*fixed, "--steps", str(length), "--out", out]


def prepare_peer(case: Case, python: Path, data: Path, work: Path) -> None:
    """Do what a program needs once beforehand: cryoDRGN reads poses and CTF from files of its
    own.
    """
    if case.peer != "cryodrgn":
        return
    about = json.loads((data / "about.json").read_text())
    (work / "some.pkl").write_bytes(pickle.dumps(np.arange(case.peer_images or about["n_images"])))
    size = ("-D", str(about["box"]), "--Apix", str(about["pixel_size"]))
    for command, words in (("parse_pose_star", size[:2]), ("parse_ctf_star", size)):
        out = work / {"parse_pose_star": "poses.pkl", "parse_ctf_star": "ctf.pkl"}[command]
        program = [python.with_name("cryodrgn"), command]
        measure(
            [*program, data / "particles.star", *words, "-o", out], work / "logs" / f"{command}.log"
        )


def runners_of_kinesphere(case: Case, data: Path, work: Path) -> list[Runner]:
    """Give what is measured of kinesphere beside a case: as it comes; and with an encoder, on the
    whole image.
    """
    if case.task == "backprojection":
        return [_backprojection(case, data, work)]
    as_others = ("--inference", "vae", *_EVERYTHING, *_batch_of(case))
    return [
        _training(case, data, "default", ()),
        _training(case, data, "vae, whole image", as_others),
    ]


def _batch_of(case: Case) -> tuple[str, str]:
    """Give the batch that suits the other program and kinesphere; 8, as cryoDRGN has it, is too
    small for us.
    """
    return "--batch-size", str(max(case.batch, 32))


def _training(case: Case, data: Path, name: str, options: tuple[str, ...]) -> Runner:
    command = _train_command(case, data)

    def at_length(length: int, out: Path) -> list[str | Path]:
        pace = ("--epochs", str(length), "--patience", str(length), "--coarse-epochs", "0")
        return [*command, *options, *pace, "--out", out / "run"]

    images = _n_images(data) * (_TRAINED_PART if case.task == "field" else 1.0)
    return Runner(name, at_length, case.our_short, case.our_long, images)


def _train_command(case: Case, data: Path) -> list[str | Path]:
    fixed = [
        sys.executable,
        "-m",
        "kinesphere",
        "field" if case.task == "backprojection" else case.task,
        data / "particles.star",
        "--map",
        data / "consensus.mrc",
    ]
    shared = ["--threads", "1", "--device", "cpu"]
    if case.task == "segments":
        return [*fixed, "--model", data / "model.pdb", "--n-segments", str(case.segments), *shared]
    steady = ["--reference-epochs", "0", "--replace-reference-every", "0"]
    return [*fixed, "--n-gaussians", str(case.points), *steady, *shared]


def _backprojection(case: Case, data: Path, work: Path) -> Runner:
    run = work / "runs" / f"{case.data}-field"
    if not (run / "latents.npz").exists():
        training = _train_command(case, data)
        measure([*training, "--epochs", "1", "--out", run], work / "logs" / f"{run.name}.log")
    fixed = [sys.executable, HERE / "run_kinesphere.py", run, "--images", "512"]
    return Runner(
        "default",
        lambda length, _: [*fixed, "--passes", str(length)],
        case.our_short,
        case.our_long,
        512,
    )
