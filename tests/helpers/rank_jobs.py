"""What the ranks of these tests do together. Run by itself, this file is one of them: `python
rank_jobs.py FOLDER`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kinesphere import load
from kinesphere.inference.options import LatentsConfig
from kinesphere.methods.base import Method
from kinesphere.methods.field import (
    Field,
    FieldOptions,
    FieldRestraintsConfig,
    FieldScheduleConfig,
    FieldTrainingConfig,
)
from kinesphere.methods.segments import (
    Segments,
    SegmentsOptions,
    SegmentsScheduleConfig,
    SegmentsTrainingConfig,
)
from kinesphere.ranks import Ranks, joined
from kinesphere.reconstruction.job import reconstruct
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.runs.job import run_job
from kinesphere.runtime import InterruptedRunError
from kinesphere.training.trainer import Trainer

N_IMAGES, BATCH = 130, 32  # the last of five batches has two images: of four ranks, two have none


def configs(data: Path) -> dict[str, Method[Any]]:
    """Name the runs: both methods, by the marginal likelihood and with an encoder."""
    found: dict[str, Method[Any]] = {}
    for inference in ("marginal", "vae"):
        shared: dict[str, Any] = {
            "latents": LatentsConfig(
                inference=inference, latent_dim=1, n_nodes=8, encoder_shells=8
            ),
            "batch_size": BATCH,
            "device": "cpu",
            "threads": 1,
        }
        particles, density = data / "particles.star", data / "consensus.mrc"
        segments = SegmentsTrainingConfig(schedule=SegmentsScheduleConfig(epochs=3), **shared)
        found[f"segments-{inference}"] = Segments(
            SegmentsOptions(
                particles=particles, model=data / "model.cif", map=density, training=segments
            )
        )
        # weights set anew from gradients, a reference that is replaced, images that teach the
        # encoder only
        field = FieldTrainingConfig(
            schedule=FieldScheduleConfig(epochs=3),
            restraints=FieldRestraintsConfig(gradient_ratio=0.9),
            **shared,
        )
        found[f"field-{inference}"] = Field(
            FieldOptions(particles=particles, map=density, n_gaussians=60, training=field)
        )
    return found


def work(folder: Path, ranks: Ranks) -> None:
    """Train, infer, reconstruct, stop in the middle of an epoch, and go on where others stopped."""
    out = folder / f"{ranks.size}-ranks"
    everything = configs(folder / "set")
    for name, method in everything.items():
        run_job(method, out / name, ranks)
    run = load(folder / "1-ranks" / "segments-marginal")
    reconstruct(run, ReconstructionSettings(), out / "backprojection", ranks)
    reconstruct(run, ReconstructionSettings(iterations=2), out / "least-squares", ranks)
    with stopped_after(7, ranks):
        run_job(everything["segments-marginal"], out / "stopped", ranks)
    if (begun := folder / f"for-{ranks.size}-ranks").exists():
        run_job(everything["segments-marginal"], begun, ranks)


@contextmanager
def stopped_after(n_steps: int, ranks: Ranks) -> Iterator[None]:
    """Stop all ranks by a signal that one of them receives."""
    step, done = Trainer._step, 0

    def counted(trainer: Trainer, *arguments: Any) -> None:
        nonlocal done
        step(trainer, *arguments)
        done += 1
        if done == n_steps and ranks.rank == ranks.size - 1:
            signal.raise_signal(signal.SIGTERM)

    Trainer._step = counted  # type: ignore[method-assign]
    try:
        yield
    except InterruptedRunError:
        return
    finally:
        Trainer._step = step  # type: ignore[method-assign]
    raise AssertionError("nothing was stopped")


if __name__ == "__main__":
    with joined() as ranks:
        work(Path(sys.argv[1]), ranks)
