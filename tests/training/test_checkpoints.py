"""Checkpoints: whole or absent, and clear about what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kinesphere.errors import InputError
from kinesphere.methods.segments import SegmentsScheduleConfig
from kinesphere.training.trainer import Trainer

SHORT = SegmentsScheduleConfig(epochs=1)


@pytest.fixture
def trained(toy: Any, checkpoints: Path) -> Trainer:
    trainer: Trainer = toy.trainer(schedule=SHORT, checkpoints=checkpoints)
    trainer.fit()
    return trainer


def latest(checkpoints: Path) -> Path:
    return checkpoints / (checkpoints / "latest").read_text(encoding="utf-8").strip()


def test_a_checkpoint_holds_what_was_learnt(toy: Any, trained: Trainer, checkpoints: Path) -> None:
    fresh = toy.trainer(seed=5, schedule=SHORT, checkpoints=checkpoints)
    assert not torch.equal(fresh.motion.decoder[0].weight, trained.motion.decoder[0].weight)  # type: ignore[index,union-attr]
    fresh.resume()
    for key, value in trained.motion.state_dict().items():
        torch.testing.assert_close(fresh.motion.state_dict()[key], value, atol=0, rtol=0)
    assert fresh.progress == trained.progress
    assert torch.equal(fresh.generator.get_state(), trained.generator.get_state())


def test_what_a_crash_left_half_written_is_ignored(
    toy: Any, trained: Trainer, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while a later checkpoint is written; the one before it is still the latest,
    and whole."""
    step = trained.progress.step

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    trained.progress.step += 1
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            trained.save()
    partial = checkpoints / ".epoch0009-step0000009.partial"
    partial.mkdir()
    (partial / "tensors.safetensors").write_bytes(b"half")
    resumed = toy.trainer(schedule=SHORT, checkpoints=checkpoints)
    resumed.resume()
    assert resumed.progress.step == step


def test_only_the_last_checkpoints_are_kept(toy: Any, checkpoints: Path) -> None:
    toy.trainer(
        schedule=SegmentsScheduleConfig(epochs=5, patience=100), checkpoints=checkpoints
    ).fit()
    folders = sorted(path.name for path in checkpoints.iterdir() if path.is_dir())
    assert folders == ["epoch0004-step0000012", "epoch0005-step0000015"]
    assert latest(checkpoints).name == folders[-1]


@pytest.mark.parametrize("name", ["tensors.safetensors", "values.json"])
def test_a_corrupt_checkpoint_is_an_input_error(
    toy: Any, trained: Trainer, checkpoints: Path, name: str
) -> None:
    broken = latest(checkpoints) / name
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be read as a checkpoint") as raised:
        toy.trainer(schedule=SHORT, checkpoints=checkpoints).resume()
    assert "\n" not in str(raised.value)
    assert str(checkpoints) in str(raised.value)


def test_a_missing_checkpoint_is_an_input_error(toy: Any, checkpoints: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoint"):
        toy.trainer(schedule=SHORT, checkpoints=checkpoints).resume()


@pytest.mark.parametrize(
    "options",
    [{"n_segments": 7}, {"latent_dim": 2}, {"inference": "vae"}],
    ids=["segments", "latents", "encoder"],
)
def test_a_checkpoint_of_another_model_is_refused(
    toy: Any, trained: Trainer, checkpoints: Path, options: dict[str, Any]
) -> None:
    other = toy.trainer(schedule=SHORT, checkpoints=checkpoints, **options)
    with pytest.raises(InputError, match="of another model") as raised:
        other.resume()
    assert "\n" not in str(raised.value)
