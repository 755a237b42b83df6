"""What a run folder holds, written and read: configuration, metrics, latents, particles."""

from __future__ import annotations

import csv
import hashlib
import io
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinesphere._version import __version__
from kinesphere.config import load_document, save_yaml, to_plain
from kinesphere.errors import InputError
from kinesphere.particles import ParticleSet
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.halves import ALL_IMAGES
from kinesphere.runtime import atomic_write

# these change where or how fast a run is computed, not what: a run may be continued with others
_FREE_OPTIONS = {"device", "threads", "memory_gigabytes", "coefficients", "cache"}
_INPUT_FILES = {"particles", "passthrough", "model", "map"}
_LIBRARIES = ("torch", "numpy", "scipy", "gemmi")
_LATENT_COLUMN = "rlnKinesphereLatent"


def is_same_run(
    folder: Path, method: str, config: Any, inputs: Sequence[Path], frame: Mapping[str, Any]
) -> bool:
    """Tell whether a folder holds this very run, to be continued; an empty one does not.

    Raises
    ------
    InputError
        If the folder holds another run, one of other data, or something that is no run at all.
    """
    path = folder / "run.yaml"
    if path.exists():
        _require_same(path, method, to_plain(config), inputs, to_plain(dict(frame)))
        return True
    if any(folder.iterdir()):
        raise InputError(folder, "is not empty and holds no run", "Give a new folder as --out")
    return False


def write_run_file(
    folder: Path,
    method: str,
    config: Any,
    inputs: Sequence[Path],
    frame: Mapping[str, Any],
    **extras: Any,
) -> None:
    """Write run.yaml: what was asked for, by whom it was done, on which data, and what a method has
    to add.
    """
    save_yaml(
        config,
        folder / "run.yaml",
        method=method,
        frame=dict(frame),
        command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        versions={
            "kinesphere": __version__,
            "python": platform.python_version(),
            **{library: version(library) for library in _LIBRARIES},
        },
        inputs={str(file): _digest(file) for file in inputs},
        **extras,
    )


def _require_same(path: Path, method: str, config: Any, inputs: Sequence[Path], frame: Any) -> None:
    document = load_document(path)
    stored = {
        "method": document.get("method"),
        **_flat(document.get("config", {})),
        "frame": document.get("frame"),
    }
    wanted = {"method": method, **_flat(config), "frame": frame}
    for key in sorted(set(stored) | set(wanted)):
        before = stored.get(key)
        now = wanted.get(key)
        # a file may be called by another name, or from another folder: its content is compared
        # below
        same = (before is None) == (now is None) if key in _INPUT_FILES else before == now
        if not same and key.rsplit(".", 1)[-1] not in _FREE_OPTIONS:
            problem = f"was started with {key} = {before!r}, not {now!r}"
            remedy = "Repeat the command it was started with to continue it, or give another --out"
            raise InputError(path, problem, remedy)
    for file, digest in zip(inputs, document.get("inputs", {}).values(), strict=False):
        if _digest(file) != digest:
            problem = f"is not the file that the run in {path.parent} was started with"
            raise InputError(file, problem, "Give the same file, or another --out")


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(config, dict):
        return {prefix.rstrip("."): config}
    return {
        k: v for name, item in config.items() for k, v in _flat(item, f"{prefix}{name}.").items()
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def write_metrics(path: Path, history: Mapping[int, Sequence[Mapping[str, float]]]) -> None:
    """Write metrics.csv, one row an epoch (and half set, where there are two)."""
    table = [{"half": half, **row} for half, epochs in history.items() for row in epochs]
    rows = [{name: f"{value:.9g}" for name, value in row.items()} for row in table]
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read metrics.csv as columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0]) if rows else []
    return {name: np.array([float(row[name]) for row in rows]) for name in names}


def write_particles(path: Path, particles: ParticleSet, latents: LatentTable) -> None:
    """Write particles.star: every input column, and the latents with their errors."""
    columns = {}
    for dimension in range(latents.mean.shape[1]):
        columns[f"{_LATENT_COLUMN}{dimension + 1}"] = latents.mean[:, dimension]
        columns[f"{_LATENT_COLUMN}Error{dimension + 1}"] = latents.std[:, dimension]
    particles.write_star(path, columns)


def describe_device(device: torch.device) -> str:
    """Name a device for people."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )


def checkpoint_folder(folder: Path, half: int) -> Path:
    """Folder of the checkpoints of one model of a run."""
    checkpoints = folder / "checkpoints"
    return checkpoints if half == ALL_IMAGES else checkpoints / f"half{half}"
