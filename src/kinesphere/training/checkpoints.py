"""Everything a trainer needs to go on exactly where it stopped, to and from a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.io.checkpoint import load_checkpoint, remove_older, save_checkpoint

if TYPE_CHECKING:
    from kinesphere.training.trainer import Trainer

_KEPT = 2
_STATISTICS = ("data", "cross", "model", "count")


def store_state(trainer: Trainer, folder: Path) -> None:
    """Write a trainer's parameters, optimiser, noise model, random state and progress to a
    checkpoint.
    """
    progress = trainer.progress
    name = f"epoch{progress.epoch:04d}-step{progress.step:07d}"
    save_checkpoint(folder, name, *state_of(trainer))
    remove_older(folder, keep=_KEPT)


State = tuple[dict[str, Tensor], dict[str, Any]]


def state_of(trainer: Trainer) -> State:
    """Give everything that a trainer needs to go on: tensors and plain values; nothing in it says
    how many ranks.
    """
    return _tensors(trainer), {"progress": asdict(trainer.progress)}


def read_state(folder: Path) -> State:
    """Read the latest checkpoint."""
    return load_checkpoint(folder)


def restore_state(trainer: Trainer, state: State, source: Path) -> None:
    """Bring a trainer to a state.

    Parameters
    ----------
    trainer
        Of the same model.
    state
        As `state_of` or `read_state` gave it.
    source
        Where it came from, for messages.

    Raises
    ------
    InputError
        If the state is of another model.
    """
    tensors, values = state
    if "memory.mean" in tensors:
        trainer.set_latent_dim(tensors["memory.mean"].shape[1])
    try:
        trainer.motion.load_state_dict(_with_prefix(tensors, "motion."))
        trainer.latents.load_state_dict(_with_prefix(tensors, "latents."))
        trainer.latents.recall(_with_prefix(tensors, "memory."))
        _restore_optimizer(trainer.optimizer, _with_prefix(tensors, "optimizer."))
    except (RuntimeError, KeyError, ValueError) as error:
        remedy = "Use the options the run was started with, or another --out"
        problem = f"the checkpoint is of another model ({str(error).splitlines()[0]})"
        raise InputError(source, problem, remedy) from error
    signal = SignalAndNoise(tensors["signal.scale"], tensors["signal.variance"])
    trainer.signal = signal.to(trainer.device)
    trainer.generator.set_state(tensors["generator"])
    trainer.model.restraints.restore(_with_prefix(tensors, "restraints."))
    for name in _STATISTICS:
        getattr(trainer.statistics, name).copy_(tensors[f"statistics.{name}"])
    for entry in fields(trainer.progress):
        if entry.name in values["progress"]:
            setattr(trainer.progress, entry.name, values["progress"][entry.name])
    trainer.schedule.settle(trainer.progress.coarse_log_likelihoods)
    if not trainer.ranks.is_first:  # the first rank goes on with the sums
        trainer.progress.forget_sums()
        trainer.statistics.clear()


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {f"motion.{key}": value for key, value in trainer.motion.state_dict().items()}
    tensors |= {f"latents.{key}": value for key, value in trainer.latents.state_dict().items()}
    tensors |= {f"memory.{key}": value for key, value in trainer.latents.memory().items()}
    tensors |= {
        f"restraints.{key}": value for key, value in trainer.model.restraints.state().items()
    }
    for number, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in state.items()
        }
    tensors |= {"signal.scale": trainer.signal.scale, "signal.variance": trainer.signal.variance}
    tensors |= {f"statistics.{name}": getattr(trainer.statistics, name) for name in _STATISTICS}
    return tensors | {"generator": trainer.generator.get_state()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
