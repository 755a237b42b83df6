"""Train cryoSPHERE for a number of epochs on one CPU thread; run by cryoSPHERE's own Python.

    OMP_NUM_THREADS=1 PYTHON_OF_CRYOSPHERE benchmarks/peers/run_cryosphere.py DATA \
        --work DIR --epochs 2 --batch 64

Calls the program's `parse_yaml` and `start_training`, what its command calls too, with the settings
of the parameters.yaml it comes with. The command itself starts one process for each GPU, and so
none where there is no GPU. DATA is a folder made by data.py. Images are read from the stack
in every epoch, as the program does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

LOSS = {
    "clashing_loss": {
        "full_clashing_loss": True,
        "clashing_cutoff": 4,
        "min_clashing_cutoff_pairs": 4,
        "max_clashing_cutoff_pairs": 10,
        "schedule": "constant",
        "beta": 0.1,
    },
    "continuity_loss": {"schedule": "constant", "beta": 0.1},
    "KL_prior_latent": {"schedule": "linear"},
    "KL_prior_segmentation_mean": {"schedule": "linear"},
    "KL_prior_segmentation_std": {"schedule": "linear"},
    "KL_prior_segmentation_proportions": {"schedule": "cyclical", "M": 5, "R": 0.5},
    "l2_pen": {"schedule": "constant", "beta": 0.000001},
}


def main() -> None:
    """Train as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--epochs", type=int, default=2, help="two or more: its schedules divide by half of it"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--segments", type=int, default=10)
    parser.add_argument(
        "--images", type=int, help="use so many of the images, 100 or more; all, where not given"
    )
    parser.add_argument("--light-clash", action="store_true")
    options = parser.parse_args()
    without_torchvision()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        train(options, Path(folder))


def without_torchvision() -> None:
    """Put an empty module in torchvision's place: it only shrinks images here, and has no CPU wheel
    on PyPI.
    """
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = types.ModuleType(name)


def train(options: argparse.Namespace, folder: Path) -> None:
    """Write the two YAML files, and hand them to the program."""
    import torch.distributed
    import yaml
    from cryosphere import cryosphere_train as program
    from cryosphere.model import utils

    about = json.loads((options.data / "about.json").read_text())
    (folder / "images.yaml").write_text(yaml.safe_dump(images(about)))
    (folder / "parameters.yaml").write_text(yaml.safe_dump(parameters(options, about, folder)))
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    # DistributedDataParallel refuses a device number on the CPU; with one process it does nothing
    program.DDP = lambda module, **_: types.SimpleNamespace(module=module)
    settings = utils.parse_yaml(str(folder / "parameters.yaml"), "cpu")
    (
        *front,
        _device,
        scheduler,
        structure,
        low_pass,
        mask,
        amortised,
        results,
        structural,
        segmenter,
    ) = settings
    program.start_training(
        *front,
        scheduler,
        structure,
        low_pass,
        mask,
        amortised,
        results,
        structural,
        segmenter,
        "cpu",
    )
    torch.distributed.destroy_process_group()


def images(about: dict[str, Any]) -> dict[str, Any]:
    """Describe the images as the program's images.yaml does."""
    return {
        "apix": about["pixel_size"],
        "Npix": about["box"],
        "Npix_downsize": about["box"],
        "sigma_gmm": 2,
    }


def shortened(star: Path, n_images: int | None, folder: Path) -> Path:
    """Write a star file with the first particles only; the rows of particles are those that name an
    image.
    """
    if n_images is None:
        return star
    lines = star.read_text().splitlines()
    rows = [number for number, line in enumerate(lines) if "@" in line]
    left_out = set(rows[n_images:])
    short = folder / star.name
    short.write_text(
        "\n".join(line for number, line in enumerate(lines) if number not in left_out) + "\n"
    )
    return short


def parameters(options: argparse.Namespace, about: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give the settings of the program's own parameters.yaml, and the files."""
    data = options.data.resolve()
    loss = {
        **LOSS,
        "clashing_loss": {**LOSS["clashing_loss"], "full_clashing_loss": not options.light_clash},
    }
    uniform = {"type": "uniform"}
    part = {"all_protein": True, "N_segm": options.segments, "segmentation_start": uniform}
    return {
        "name": "benchmark",
        "wandb": False,
        "folder_path": str(folder),
        "base_structure_path": str(data / "model.pdb"),
        "image_yaml": "images.yaml",
        "particles_path": str(data),
        "cs_star_file": {"file": str(shortened(data / "particles.star", options.images, folder))},
        "segmentation_config": {"part1": {**part, "segmentation_prior": uniform}},
        "loss_mask_radius": 1,
        "input_mask_radius": 1,
        "latent_dimension": 8,
        "tau_segmentation": 0.05,
        "device": "CPU",
        "num_workers": 0,
        "amortized": True,
        "N_images": options.images or about["n_images"],
        "N_epochs": options.epochs,
        "batch_size": options.batch,
        "epsilon_kl": "1e-10",  # the program evaluates text
        "seed": 1,
        "deterministic_cuda": False,
        "encoder": {"hidden_dimensions": [512, 256, 64, 64]},
        "decoder": {"hidden_dimensions": [512, 512]},
        "optimizer": {
            "name": "adam",
            "learning_rate": 0.00003,
            "learning_rate_segmentation": 0.0003,
        },
        "loss": loss,
        "resume_training": {"model": None, "segmentation": None},
    }


if __name__ == "__main__":
    main()
