"""Checkpoints come back as they were written, are whole or absent, and the latest is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinesphere.errors import InputError
from kinesphere.io import checkpoint
from kinesphere.io.checkpoint import (
    has_checkpoint,
    load_checkpoint,
    remove_older,
    save_checkpoint,
)

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3).T,
    "seen": torch.tensor([True, False]),
    "half": torch.tensor([1.5], dtype=torch.float16),
}


def test_tensors_and_values_come_back(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    save_checkpoint(tmp_path, "epoch-1", TENSORS, {"epoch": 1, "rates": [0.1, 0.2]})
    assert has_checkpoint(tmp_path)
    tensors, values = load_checkpoint(tmp_path)
    assert values == {"epoch": 1, "rates": [0.1, 0.2]}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_the_latest_is_loaded_and_older_ones_are_kept_on_request(tmp_path: Path) -> None:
    for epoch in range(1, 5):
        save_checkpoint(tmp_path, f"epoch-{epoch}", TENSORS, {"epoch": epoch})
    assert load_checkpoint(tmp_path)[1] == {"epoch": 4}
    assert load_checkpoint(tmp_path, "epoch-2")[1] == {"epoch": 2}
    remove_older(tmp_path, keep=2)
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert len(left) == 2
    assert "epoch-4" in left


def test_a_write_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, "epoch-1", TENSORS, {"epoch": 1})

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, "epoch-2", TENSORS, {"epoch": 2})
    assert load_checkpoint(tmp_path)[1] == {"epoch": 1}
    assert not (tmp_path / "epoch-2").exists()


def test_missing_and_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_checkpoint(tmp_path)
    folder = save_checkpoint(tmp_path, "epoch-1", TENSORS, {})
    (folder / "tensors.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="epoch-1: cannot be read as a checkpoint"):
        load_checkpoint(tmp_path)
