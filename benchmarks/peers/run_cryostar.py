"""Train cryoSTAR for a number of steps on one CPU thread; run by cryoSTAR's own Python.

    OMP_NUM_THREADS=1 PYTHON_OF_CRYOSTAR benchmarks/peers/run_cryostar.py DATA --steps 20 --out DIR

Runs the program's script projects/star/train_atom.py, which its package does not install:
CRYOSTAR_SOURCE names the folder of its sources. Settings are those of its atom_configs/1ake.py but
for the files, one device and single precision; it starts without the fit to the reference, and
checks no images at the end. DATA is a folder made by data.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from unittest.mock import MagicMock


def main() -> None:
    """Train as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    folder = Path(os.environ["CRYOSTAR_SOURCE"]).resolve() / "projects" / "star"
    without_torchvision()
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(folder))
    sys.argv = [
        "train_atom.py",
        str(folder / "atom_configs" / "1ake.py"),
        "--cfg-options",
        *settings(options),
    ]
    os.chdir(options.out)
    train()


def without_torchvision() -> None:
    """Put mocks in torchvision's place, whose wheel on PyPI wants a GPU: here it only shrinks and
    draws images.
    """
    for name in ("lightning.pytorch", "torchinfo"):
        importlib.import_module(name)  # these look torchvision up, and have to find none
    for name in (
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.functional",
        "torchvision.utils",
    ):
        sys.modules[name] = MagicMock()


def settings(options: argparse.Namespace) -> list[str]:
    """Give what differs from the program's configuration."""
    data = options.data.resolve()
    about = json.loads((data / "about.json").read_text())
    changed = {
        "dataset_attr.dataset_dir": data,
        "dataset_attr.starfile_path": data / "particles.star",
        "dataset_attr.ref_pdb_path": data / "model.pdb",
        "dataset_attr.apix": about["pixel_size"],
        "dataset_attr.side_shape": about["box"],
        "data_loader.train_batch_per_gpu": options.batch,
        "data_loader.workers_per_gpu": 0,
        "do_ref_init": False,
        "trainer.max_steps": options.steps,
        "trainer.val_check_interval": 1_000_000,
        "trainer.devices": 1,
        "trainer.precision": "32-true",
    }
    return [f"{key}={value}" for key, value in changed.items()]


def train() -> None:
    """Run the script's `train` without its strategy, which looks for GPUs, and its drawings."""
    import train_atom

    train_atom.DDPStrategy = lambda **_: "auto"
    train_atom.CryoEMTask._shared_image_check = lambda *_args, **_more: None  # noqa: SLF001
    train_atom.train()


if __name__ == "__main__":
    main()
