"""Checkpoints: named tensors (safetensors) and plain values (JSON) in one folder that is either
whole or absent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from kinesphere.errors import InputError

_TENSORS = "tensors.safetensors"
_VALUES = "values.json"
LATEST = "latest"


def save_checkpoint(
    folder: Path, name: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> Path:
    """Write a checkpoint and make it the latest, keeping the one before it until the new one is on
    disk.

    Parameters
    ----------
    folder
        Folder of all checkpoints; made if needed.
    name
        Name of this one; an existing one of that name is replaced.
    tensors
        Tensors by name, on any device.
    values
        Anything JSON can hold.

    Returns
    -------
    Path
        The checkpoint's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    partial = folder / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(plain, partial / _TENSORS)
    (partial / _VALUES).write_text(json.dumps(values, indent=1), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _point_latest(folder, name)
    return target


def load_checkpoint(folder: Path, name: str = LATEST) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Parameters
    ----------
    folder
        Folder of all checkpoints.
    name
        Which one; by default the one that was written last.

    Returns
    -------
    tuple
        Tensors on the CPU, and values.

    Raises
    ------
    InputError
        If there is none, or it cannot be read.
    """
    chosen = folder / (_latest_name(folder) if name == LATEST else name)
    try:
        tensors = safetensors.torch.load_file(chosen / _TENSORS)
        values = json.loads((chosen / _VALUES).read_text(encoding="utf-8"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        remedy = (
            f"Remove {folder} to start again, or point {folder / LATEST} at an older checkpoint"
        )
        raise InputError(chosen, f"cannot be read as a checkpoint ({error})", remedy) from error
    return tensors, values


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a folder holds a checkpoint to resume from."""
    return (folder / LATEST).is_file()


def remove_older(folder: Path, keep: int) -> None:
    """Delete all but the `keep` most recently written checkpoints, never the latest."""
    latest = _latest_name(folder)
    others = [
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name != latest and path.name[0] != "."
    ]
    for path in sorted(others, key=lambda p: p.stat().st_mtime)[: max(len(others) - keep + 1, 0)]:
        shutil.rmtree(path, ignore_errors=True)


def _point_latest(folder: Path, name: str) -> None:
    """Name the latest in a one-line file rather than a symbolic link: copies and archives of a run
    keep it.
    """
    temporary = folder / f".{LATEST}.partial"
    temporary.write_text(name + "\n", encoding="utf-8")
    temporary.replace(folder / LATEST)


def _latest_name(folder: Path) -> str:
    try:
        return (folder / LATEST).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(folder, "holds no checkpoint", "Run the training command first") from error
