"""What a run folder holds, written and read: configuration, metrics, latents, particles."""

from __future__ import annotations

import csv
import hashlib
import io
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinesphere import __version__
from kinesphere.config import load_document, save_yaml, to_plain
from kinesphere.errors import InputError
from kinesphere.particles import ParticleSet
from kinesphere.runtime import atomic_write

# these change where or how fast a run is computed, not what: a run may be continued with others
_FREE_OPTIONS = {"device", "threads", "memory_gigabytes"}
_LIBRARIES = ("torch", "numpy", "scipy", "gemmi")
_LATENT_COLUMN = "rlnKinesphereLatent"


@dataclass(frozen=True)
class LatentTable:
    """Latents of all particles of a run.

    Parameters
    ----------
    index
        (n,) row of each particle in the particle set of the run.
    mean, std
        (n, d) posterior mean and standard deviation.
    half
        (n,) 1 or 2 where two models were trained, else 0.
    """

    index: NDArray[np.int64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    half: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write `latents.npz`."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, index=self.index, mean=self.mean, std=self.std, half=self.half)

    @classmethod
    def load(cls, path: Path) -> LatentTable:
        """Read `latents.npz`."""
        try:
            with np.load(path) as stored:
                return cls(*(stored[name] for name in ("index", "mean", "std", "half")))
        except (OSError, KeyError, ValueError) as error:
            remedy = "Run the training command again: it continues where it stopped"
            raise InputError(path, "holds no latents; the run has not finished", remedy) from error


def start_folder(folder: Path, method: str, config: Any, inputs: Sequence[Path], frame: Mapping[str, Any]) -> None:
    """Write run.yaml into a new run folder, or check that an existing one is of the same run.

    Raises
    ------
    InputError
        If the folder holds another run, or something that is no run at all.
    """
    path = folder / "run.yaml"
    if path.exists():
        _require_same(path, method, to_plain(config), frame)
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(folder, "is not empty and holds no run", "Give a new folder as --out")
    save_yaml(
        config,
        path,
        method=method,
        frame=dict(frame),
        command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        versions={
            "kinesphere": __version__,
            "python": platform.python_version(),
            **{library: version(library) for library in _LIBRARIES},
        },
        inputs={str(file): _digest(file) for file in inputs},
    )


def _require_same(path: Path, method: str, config: Any, frame: Mapping[str, Any]) -> None:
    document = load_document(path)
    stored = {"method": document.get("method"), **_flat(document.get("config", {}))}
    wanted = {"method": method, **_flat(config)}
    stored["frame"], wanted["frame"] = document.get("frame"), to_plain(dict(frame))
    for key in sorted(set(stored) | set(wanted)):
        if key.rsplit(".", 1)[-1] in _FREE_OPTIONS or stored.get(key) == wanted.get(key):
            continue
        problem = f"was started with {key} = {stored.get(key)!r}, not {wanted.get(key)!r}"
        raise InputError(path, problem, "Repeat the command it was started with to continue it, or give another --out")


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(config, dict):
        return {prefix.rstrip("."): config}
    return {k: v for name, item in config.items() for k, v in _flat(item, f"{prefix}{name}.").items()}


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
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
